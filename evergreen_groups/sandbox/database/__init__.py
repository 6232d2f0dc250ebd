"""The sandbox's database: the tables of the IDL's classes in SQLite, with the ILS's own functions and constraints."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
