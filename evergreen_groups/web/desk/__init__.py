"""The pages of the desk: a patron's group, with everything that can be done with it, in a browser with plain forms."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
