"""How many sessions there may be, whose turn it is, and what they use together."""
