from .algorithms import InterCLR, InvP, MomentumInterCLR, MomentumInvP
from .branches import OnlineClusterBranch
from .heads import BankMarginHead, InvPHead, QueueMarginHead
from .losses import HardSamplingLoss, MarginNCELoss
from .memories import (
    ClusterMemory,
    KeyQueue,
    ODCClusterMemory,
    PropagationMemory,
    PropagationQueue,
)
from .necks import ProjectionNeck

__all__ = [
    'BankMarginHead',
    'ClusterMemory',
    'HardSamplingLoss',
    'InterCLR',
    'InvP',
    'InvPHead',
    'KeyQueue',
    'MarginNCELoss',
    'MomentumInterCLR',
    'MomentumInvP',
    'ODCClusterMemory',
    'OnlineClusterBranch',
    'ProjectionNeck',
    'PropagationMemory',
    'PropagationQueue',
    'QueueMarginHead',
]
