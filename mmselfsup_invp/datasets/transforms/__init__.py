from .loading import LoadImage
from .views import AugmentedViews, PILGaussianBlur

__all__ = ['AugmentedViews', 'LoadImage', 'PILGaussianBlur']
