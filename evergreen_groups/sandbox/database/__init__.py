"""The sandbox's SQLite database: a table per IDL class, plus PostgreSQL's functions and Evergreen's constraints."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
