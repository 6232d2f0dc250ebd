from .answers import describe_problem as describe_problem
from .routes import blueprint as blueprint
