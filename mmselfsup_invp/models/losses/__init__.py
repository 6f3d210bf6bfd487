from .hard_sampling_loss import HardSamplingLoss

__all__ = ['HardSamplingLoss']
