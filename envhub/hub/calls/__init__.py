"""One call of a session: numbered, bounded in time, over an event loop or without one."""
