"""Thumbnails of image files, embedded in the page."""

import io
import math

from mmengine import fileio
from PIL import Image, ImageOps

from .charts import data_uri

SIDE = 80  # Pixels of the longer side.
QUALITY = 75  # Of WebP.


def thumbnail(path: str, side: int = SIDE) -> str:
    """Scale an image file down and encode it as a data URI.

    The EXIF orientation is applied. Small images are first enlarged by an integer factor without
    interpolation, so that their pixels stay visible.

    Args:
        path (str): Image file, on any storage that MMEngine reads.
        side (int): Pixels of the longer side. Defaults to 80.

    Returns:
        str: Data URI of a WebP image.
    """
    with Image.open(io.BytesIO(fileio.get(path))) as file:
        image = ImageOps.exif_transpose(file).convert('RGB')
    factor = math.ceil(side / max(image.size))
    if factor > 1:
        size = (image.width * factor, image.height * factor)
        image = image.resize(size, Image.Resampling.NEAREST)
    image.thumbnail((side, side))
    content = io.BytesIO()
    image.save(content, format='WEBP', quality=QUALITY, method=6)
    return data_uri(content.getvalue(), 'webp')
