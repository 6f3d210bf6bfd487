import os

from mmcv.transforms import LoadImageFromFile

from ...compat.host import TRANSFORMS
from ..files import printable


class UnreadableImage(RuntimeError):
    """An image file cannot be read."""


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """Load an image with mmcv's ``LoadImageFromFile``; errors name the file.

    The required key is ``img_path``; ``img`` (BGR, uint8, shape ``(H, W, 3)``), ``img_shape`` and
    ``ori_shape`` are added. Takes the arguments of ``LoadImageFromFile``.

    The EXIF orientation is applied, so photos of phones are upright. OpenCV, the default decoder,
    does so for JPEG, PNG and TIFF, but not for WebP, which is therefore decoded by Pillow.

    Raises:
        UnreadableImage: If the file is missing, truncated, no image or no regular file.
    """

    def transform(self, results: dict) -> dict | None:
        """Add the image to ``results``."""
        path, backend = results['img_path'], self.imdecode_backend
        if path.lower().endswith('.webp'):
            self.imdecode_backend = 'pillow'
        try:
            if os.path.exists(path) and not os.path.isfile(path):
                raise OSError('not a regular file')  # Opening a FIFO would block for ever.
            return super().transform(results)
        except Exception as error:
            raise UnreadableImage(
                f'Cannot read the image {printable(path)} ({type(error).__name__}: '
                f'{printable(str(error))}). Restore the file, or remove it from the folder or its '
                'line from the list.'
            ) from error
        finally:
            self.imdecode_backend = backend
