from mmcv.transforms import BaseTransform

from ...compat.host import TRANSFORMS
from ...options import PositiveInt, checked


@TRANSFORMS.register_module()
@checked
class LimitAspectRatio(BaseTransform):
    """Crop the centre of a very long or high image, which resizing its shorter edge would blow up.

    A PNG of 300 bytes may have 1 x 60,000 pixels; with a shorter edge of 224 it takes 9 GB, of
    which a crop of the centre keeps 150 KB. The crop here has the centre of the image, so that
    resizing the shorter edge and cropping a square give the same view as without it, up to a shift
    below one pixel of the view. Images within the ratio are not changed.

    The required key is ``img``, shape ``(H, W, 3)``; ``img`` and ``img_shape`` are updated.

    Args:
        ratio (int): Longer edge of the crop in shorter edges; one pixel more if that is needed to
            keep the centre. Defaults to 16.

    Example:
        >>> import numpy as np
        >>> LimitAspectRatio()(dict(img=np.zeros((1, 60000, 3), np.uint8)))['img'].shape
        (1, 16, 3)
    """

    def __init__(self, ratio: PositiveInt = 16) -> None:
        self.ratio = ratio

    def transform(self, results: dict) -> dict:
        """Crop ``results['img']``."""
        shape = results['img'].shape[:2]
        longest = self.ratio * min(shape)
        if max(shape) > longest:
            # An odd remainder would move the centre by half a pixel, which the resizing enlarges.
            starts = [max(edge - longest, 0) // 2 for edge in shape]
            ends = [edge - start for edge, start in zip(shape, starts, strict=True)]
            results['img'] = results['img'][starts[0] : ends[0], starts[1] : ends[1]]
            results['img_shape'] = results['img'].shape[:2]
        return results
