"""The table of :mod:`table`."""

from .table import main

main()
