from .hard_sampling_loss import HardSamplingLoss
from .margin_nce_loss import MarginNCELoss

__all__ = ['HardSamplingLoss', 'MarginNCELoss']
