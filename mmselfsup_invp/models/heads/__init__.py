from .invp_head import InvPHead

__all__ = ['InvPHead']
