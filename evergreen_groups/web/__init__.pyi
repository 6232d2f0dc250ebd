from .app import PREFIX as PREFIX
from .app import close as close
from .app import create_app as create_app
from .server import Server as Server
