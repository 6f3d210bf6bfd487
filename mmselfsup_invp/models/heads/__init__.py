from .bank_margin_head import BankMarginHead
from .invp_head import InvPHead
from .queue_margin_head import QueueMarginHead

__all__ = ['BankMarginHead', 'InvPHead', 'QueueMarginHead']
