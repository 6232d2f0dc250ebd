"""The IDL."""


class Class:
    """One class of the IDL."""


class Idl:
    """The classes known so far."""
