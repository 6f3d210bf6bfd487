from .algorithms import InvP, MomentumInvP
from .heads import InvPHead
from .losses import HardSamplingLoss
from .memories import PropagationMemory, PropagationQueue
from .necks import ProjectionNeck

__all__ = [
    'HardSamplingLoss',
    'InvP',
    'InvPHead',
    'MomentumInvP',
    'ProjectionNeck',
    'PropagationMemory',
    'PropagationQueue',
]
