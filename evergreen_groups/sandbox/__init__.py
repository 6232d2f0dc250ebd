"""An embedded stand-in for an Evergreen gateway, with sample data. It uses nothing of what it is used to test."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
