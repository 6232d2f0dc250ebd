"""Two pages that look and behave like the staff clients' patron summary, to try the panel in."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
