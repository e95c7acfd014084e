"""Sessions of a hub elsewhere, with the API of one that is here. See docs/protocol.md."""
