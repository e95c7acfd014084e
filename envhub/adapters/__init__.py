"""Other libraries' interfaces, in the user's process. A file for each, imported when needed."""
