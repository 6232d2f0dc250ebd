from .routes import blueprint as blueprint
from .routes import describe_problem as describe_problem
