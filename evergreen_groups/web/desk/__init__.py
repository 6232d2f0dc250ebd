"""The desk's pages: a patron's group, and every change to it, with plain HTML forms."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
