from .fully_connected_neck import FullyConnectedNeck
from .projection_neck import ProjectionNeck

__all__ = ['FullyConnectedNeck', 'ProjectionNeck']
