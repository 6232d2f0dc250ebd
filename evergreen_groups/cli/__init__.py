"""The command ``evergreen-groups``: options in, text out. No rule lives here."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
