"""`python -m nsa`: see nsa.cli."""

from nsa.cli import main

main()
