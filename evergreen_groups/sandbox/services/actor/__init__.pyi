from .penalty_rules import recalculate as recalculate
