from .rust_gateway import CUT_OFF as CUT_OFF
from .rust_gateway import WORKER_REQUESTS as WORKER_REQUESTS
from .rust_gateway import RustGateway as RustGateway
from .server import SandboxServer as SandboxServer
