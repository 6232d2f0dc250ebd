"""The stable interface for other programs: summaries, block decisions, changes and events, as versioned JSON."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
