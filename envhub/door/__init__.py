"""The side that faces the network: OpenEnv's WebSocket protocol and HTTP routes."""
