"""Letters to the families of a report: who gets one, what it says, and who gets none and why."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
