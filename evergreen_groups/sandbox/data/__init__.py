"""The sandbox's sample data: the built-in families, datasets from files, and populations of any size."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
