"""The native protocol's half of the door: `/v1/connect`. See docs/protocol.md."""
