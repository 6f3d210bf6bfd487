from ...structures import sample_ids
from .embedding_model import EmbeddingModel
from .interclr import InterCLR
from .invp import InvP
from .momentum_interclr import MomentumInterCLR
from .momentum_invp import MomentumInvP
from .sela import SeLa
from .soft_invp import SoftInvP
from .tap_probe import TapProbe

__all__ = [
    'EmbeddingModel',
    'InterCLR',
    'InvP',
    'MomentumInterCLR',
    'MomentumInvP',
    'SeLa',
    'SoftInvP',
    'TapProbe',
    'sample_ids',
]
