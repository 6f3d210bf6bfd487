"""Small pictures of image files, embedded in the page."""

import io
import math
from collections.abc import Sequence

from mmengine import fileio
from PIL import Image, ImageOps

from .charts import data_uri

SIDE = 80  # Pixels of the longer side of a thumbnail.
QUALITY = 65  # Of WebP.
SHEET_QUALITY = 50
MISSING = (128, 128, 128)  # Colour in place of an image that cannot be read.


def read_picture(path: str, side: int) -> Image.Image:
    """Read an image file in RGB whose longer side has at least ``side`` pixels.

    The EXIF orientation is applied. Small images are enlarged by an integer factor without
    interpolation, so that their pixels stay visible. A file that cannot be read gives a grey
    square.
    """
    try:
        with Image.open(io.BytesIO(fileio.get(path))) as file:
            file.draft('RGB', (2 * side, 2 * side))  # Decodes large JPEG files at a smaller scale.
            image = ImageOps.exif_transpose(file).convert('RGB')
    except (OSError, Image.DecompressionBombError):
        return Image.new('RGB', (side, side), MISSING)
    factor = math.ceil(side / max(image.size))
    size = (image.width * factor, image.height * factor)
    return image if factor == 1 else image.resize(size, Image.Resampling.NEAREST)


def thumbnail(path: str, side: int = SIDE) -> str:
    """Scale an image file down, in pixels of the longer side, and encode it as a data URI."""
    image = read_picture(path, side)
    image.thumbnail((side, side))
    return encode(image, QUALITY)


def sprite_sheet(paths: Sequence[str], side: int) -> tuple[str, int]:
    """Combine the centres of image files in one image, which takes less space than single ones.

    Returns its data URI and the number of tiles of ``side`` pixels in each of its rows.
    """
    columns = math.ceil(math.sqrt(len(paths)))
    rows = math.ceil(len(paths) / columns)
    sheet = Image.new('RGB', (columns * side, rows * side), MISSING)
    for number, path in enumerate(paths):
        tile = ImageOps.fit(read_picture(path, side), (side, side))
        sheet.paste(tile, (number % columns * side, number // columns * side))
    return encode(sheet, SHEET_QUALITY), columns


def encode(image: Image.Image, quality: int) -> str:
    """Encode an image as a data URI of the type WebP."""
    content = io.BytesIO()
    image.save(content, format='WEBP', quality=quality, method=6)
    return data_uri(content.getvalue(), 'webp')
