from .loading import LoadImage, UnreadableImage
from .views import AugmentedViews, PILGaussianBlur

__all__ = ['AugmentedViews', 'LoadImage', 'PILGaussianBlur', 'UnreadableImage']
