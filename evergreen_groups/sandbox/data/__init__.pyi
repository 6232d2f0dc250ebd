from .dataset import Contents as Contents
from .dataset import fill as fill
