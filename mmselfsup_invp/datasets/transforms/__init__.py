from .limit_aspect_ratio import LimitAspectRatio
from .loading import LoadImage, UnreadableImage
from .views import AugmentedViews, PILGaussianBlur

__all__ = [
    'AugmentedViews',
    'LimitAspectRatio',
    'LoadImage',
    'PILGaussianBlur',
    'UnreadableImage',
]
