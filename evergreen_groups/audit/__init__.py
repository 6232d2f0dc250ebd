"""The audit: blocks that contradict the rule, and groups that look accidental."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
