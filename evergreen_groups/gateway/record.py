"""Fieldmapper objects."""


class Record:
    """One fieldmapper object."""
