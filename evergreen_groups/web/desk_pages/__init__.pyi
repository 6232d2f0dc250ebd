from .answers import describe_problem as describe_problem
from .history import blueprint as blueprint
