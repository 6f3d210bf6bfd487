from .few_labels import FewLabels
from .info import image_labels, label_vector, num_images
from .transforms import AugmentedViews, LoadImage, PILGaussianBlur

__all__ = [
    'AugmentedViews',
    'FewLabels',
    'LoadImage',
    'PILGaussianBlur',
    'image_labels',
    'label_vector',
    'num_images',
]
