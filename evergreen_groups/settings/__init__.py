"""What can be configured: the settings, where they are read from, and what each may be."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
