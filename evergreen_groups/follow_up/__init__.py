"""What was agreed with a group that the report lists: entries, and whether staff have to act."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
