"""The native protocol over real sockets: by our clients, by raw ones, and by another's."""
