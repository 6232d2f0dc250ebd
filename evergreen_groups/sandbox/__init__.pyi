from .sandbox import Sandbox as Sandbox
