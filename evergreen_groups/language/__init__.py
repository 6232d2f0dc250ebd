"""What people read: texts from one catalogue, money, numbers and dates, in the language of whoever reads.

``with use_language(Language("fr-CA", "CAD")):`` and everything written within is in it. Programs read English, which is
what there is outside.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
