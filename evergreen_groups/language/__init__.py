"""Text, money, numbers and dates in the reader's language.

Everything written within ``with use_language(Language("fr-CA", "CAD")):`` is in that language. The default is English,
which is what programs get.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
