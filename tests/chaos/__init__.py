"""Everything that can end is ended, under load; then it is counted. See docs/steady.md."""
