"""The benchmarks: `python -m bench [names…]`, one file for each.

Every figure states its unit, its number of samples, its median and its spread; where the
project has promised a number, that stands beside it as the target. Nothing here is imported
by the product, and what is measured is the product's own code, not a copy of it.
"""
