"""Facts read from the ILS: org units, profiles, permissions, bills, circulations, penalties, thresholds, limits."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
