from .algorithms import InvP, MomentumInvP, SeLa
from .backbones import AlexNetBN
from .heads import InvPHead, SelfLabelHead
from .losses import HardSamplingLoss
from .memories import PropagationMemory, PropagationQueue, SelfLabelMemory
from .necks import FullyConnectedNeck, ProjectionNeck

__all__ = [
    'AlexNetBN',
    'FullyConnectedNeck',
    'HardSamplingLoss',
    'InvP',
    'InvPHead',
    'MomentumInvP',
    'ProjectionNeck',
    'PropagationMemory',
    'PropagationQueue',
    'SeLa',
    'SelfLabelHead',
    'SelfLabelMemory',
]
