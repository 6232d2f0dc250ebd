from .dataset import load as load
