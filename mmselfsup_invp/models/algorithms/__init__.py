from .invp import InvP, sample_ids
from .momentum_invp import MomentumInvP
from .sela import SeLa

__all__ = ['InvP', 'MomentumInvP', 'SeLa', 'sample_ids']
