"""Changes that are sent to Evergreen: membership and recalculation, their plans, journal, recovery and undo."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
