from .penalties import recalculate as recalculate
