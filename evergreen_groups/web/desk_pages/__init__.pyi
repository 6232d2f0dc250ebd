from .answers import describe_problem as describe_problem
from .family import blueprint as blueprint
