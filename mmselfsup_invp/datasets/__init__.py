from ..compat import require_host

require_host()

from .few_labels import FewLabels
from .image_files import ImageFiles
from .info import image_labels, label_vector, num_images
from .transforms import AugmentedViews, LimitAspectRatio, LoadImage, PILGaussianBlur

__all__ = [
    'AugmentedViews',
    'FewLabels',
    'ImageFiles',
    'LimitAspectRatio',
    'LoadImage',
    'PILGaussianBlur',
    'image_labels',
    'label_vector',
    'num_images',
]
