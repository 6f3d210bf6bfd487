from .invp_head import InvPHead
from .self_label_head import SelfLabelHead

__all__ = ['InvPHead', 'SelfLabelHead']
