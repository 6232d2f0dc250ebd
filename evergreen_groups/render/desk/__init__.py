"""The desk's pages: their texts, rows and links, as the templates need them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
