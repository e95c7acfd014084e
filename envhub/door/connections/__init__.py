"""Connections: HTTP and WebSockets as uvicorn has them, and what bounds each of them."""
