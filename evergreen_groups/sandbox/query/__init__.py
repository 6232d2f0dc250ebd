"""Evergreen's JSON queries, turned into SQL as ``cstore`` and ``pcrud`` do."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
