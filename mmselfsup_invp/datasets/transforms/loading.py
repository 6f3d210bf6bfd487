from mmcv.transforms import LoadImageFromFile
from mmselfsup.registry import TRANSFORMS


class UnreadableImage(RuntimeError):
    """An image file cannot be read."""


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """Load an image, as mmcv's ``LoadImageFromFile``, and name the file where that fails.

    Required key ``img_path``; added keys ``img`` (BGR, uint8, shape ``(H, W, 3)``),
    ``img_shape`` and ``ori_shape``. Takes the arguments of ``LoadImageFromFile``.

    Raises:
        UnreadableImage: If the file is missing, truncated or no image.
    """

    def transform(self, results: dict) -> dict | None:
        """Add the image to ``results``."""
        path = results['img_path']
        try:
            return super().transform(results)
        except Exception as error:
            raise UnreadableImage(
                f'Cannot read the image {path} ({type(error).__name__}: {error}). Restore the '
                'file, or take it out of the folder, or its line out of the list.'
            ) from error
