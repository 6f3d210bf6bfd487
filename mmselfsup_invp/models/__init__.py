from ..compat import require_host

require_host()

from .algorithms import (
    InterCLR,
    InvP,
    LayerwiseProbe,
    MomentumInterCLR,
    MomentumInvP,
    MultiViewInvP,
    SeLa,
    SoftInvP,
)
from .backbones import AlexNetBN
from .branches import OnlineClusterBranch
from .heads import BankMarginHead, InvPHead, QueueMarginHead, SelfLabelHead, SoftInvPHead
from .losses import HardSamplingLoss, MarginNCELoss, ViewContrastLoss
from .memories import (
    ClusterMemory,
    KeyQueue,
    ODCClusterMemory,
    PropagationMemory,
    PropagationQueue,
    SelfLabelMemory,
)
from .necks import FullyConnectedNeck, ProjectionNeck
from .preprocessors import AugmentingDataPreprocessor

__all__ = [
    'AlexNetBN',
    'AugmentingDataPreprocessor',
    'BankMarginHead',
    'ClusterMemory',
    'FullyConnectedNeck',
    'HardSamplingLoss',
    'InterCLR',
    'InvP',
    'InvPHead',
    'KeyQueue',
    'LayerwiseProbe',
    'MarginNCELoss',
    'MomentumInterCLR',
    'MomentumInvP',
    'MultiViewInvP',
    'ODCClusterMemory',
    'OnlineClusterBranch',
    'ProjectionNeck',
    'PropagationMemory',
    'PropagationQueue',
    'QueueMarginHead',
    'SeLa',
    'SelfLabelHead',
    'SelfLabelMemory',
    'SoftInvP',
    'SoftInvPHead',
    'ViewContrastLoss',
]
