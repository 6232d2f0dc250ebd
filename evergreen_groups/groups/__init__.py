"""Who belongs together and what they owe: patrons, members, groups, and the search for groups with high fines."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
