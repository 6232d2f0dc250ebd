from .server import SandboxServer as SandboxServer
