from .answers import describe_problem as describe_problem
from .forms import form_token as form_token
from .forms import is_form_token as is_form_token
from .routes import blueprint as blueprint
