"""What is counted and measured, for monitoring by Prometheus: nothing of a patron, and no more series than there are
routes, methods and libraries.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
