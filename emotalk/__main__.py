"""`python -m emotalk`."""

from .commands import main

main()
