"""The pages of the desk: what stands in them, in sentences and columns; the HTML is in ``templates/desk``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
