"""On the side of the trainer: clients of a hub elsewhere, and what starts one for them."""
