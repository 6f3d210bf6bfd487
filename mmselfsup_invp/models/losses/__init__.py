from .hard_sampling_loss import HardSamplingLoss
from .margin_nce_loss import MarginNCELoss
from .view_contrast_loss import ViewContrastLoss

__all__ = ['HardSamplingLoss', 'MarginNCELoss', 'ViewContrastLoss']
