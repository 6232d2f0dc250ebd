"""A patron and their group as the circulation desk sees them, and the handling of Evergreen's events."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
