from ...structures import sample_ids
from .embedding_model import EmbeddingModel
from .interclr import InterCLR
from .invp import InvP
from .layerwise_probe import LayerwiseProbe
from .momentum_interclr import MomentumInterCLR
from .momentum_invp import MomentumInvP
from .multi_view_invp import MultiViewInvP
from .sela import SeLa
from .soft_invp import SoftInvP

__all__ = [
    'EmbeddingModel',
    'InterCLR',
    'InvP',
    'LayerwiseProbe',
    'MomentumInterCLR',
    'MomentumInvP',
    'MultiViewInvP',
    'SeLa',
    'SoftInvP',
    'sample_ids',
]
