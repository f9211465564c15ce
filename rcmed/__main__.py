"""`python -m rcmed` is the command `rcmed`, for launchers that want a module."""

from rcmed.cli import main

main()
