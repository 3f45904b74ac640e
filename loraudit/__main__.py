"""Entry point of `python -m loraudit`."""

from loraudit.cli import main

main()
