"""Sandboxes with zygotes in them: how they start, fork, are replaced, and end."""
