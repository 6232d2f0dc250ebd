from . import logs as logs
from .application import main as main
from .invocation import Invocation as Invocation
from .options import Checked as Checked
from .options import output_options as output_options
from .output import standard_output as standard_output
from .terminal import terminal_progress as terminal_progress
from .terminal import terminal_width as terminal_width
