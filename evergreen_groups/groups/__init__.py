"""Patrons, groups and their fines: read them, and search for groups with high combined fines."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
