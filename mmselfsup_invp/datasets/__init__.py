from .info import image_labels, num_images
from .transforms import AugmentedViews, LoadImage, PILGaussianBlur

__all__ = ['AugmentedViews', 'LoadImage', 'PILGaussianBlur', 'image_labels', 'num_images']
