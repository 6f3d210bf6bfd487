from .nonfinite import NonFiniteFeatures, NonFiniteMonitor

__all__ = ['NonFiniteFeatures', 'NonFiniteMonitor']
