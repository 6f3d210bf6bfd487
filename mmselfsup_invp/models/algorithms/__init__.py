from .invp import InvP, sample_ids
from .momentum_invp import MomentumInvP

__all__ = ['InvP', 'MomentumInvP', 'sample_ids']
