from .bank_margin_head import BankMarginHead
from .invp_head import InvPHead
from .queue_margin_head import QueueMarginHead
from .self_label_head import SelfLabelHead
from .soft_invp_head import SoftInvPHead

__all__ = ['BankMarginHead', 'InvPHead', 'QueueMarginHead', 'SelfLabelHead', 'SoftInvPHead']
