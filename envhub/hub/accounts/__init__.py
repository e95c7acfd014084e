"""What happened and what it cost: counts, bills, events, and what an operator is shown."""
