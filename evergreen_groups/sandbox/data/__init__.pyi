from .dataset import fill as fill
from .dataset import load as load
