"""The nightly report: groups with high combined fines, and what changed since the previous run."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
