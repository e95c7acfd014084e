"""`python -m envhub`: the command line."""

from envhub.cli import main

main()
