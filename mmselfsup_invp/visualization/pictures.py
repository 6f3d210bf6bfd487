"""Images of a data set as pictures that lie inside the page."""

import io
import math

from mmengine import fileio
from PIL import Image

from .charts import data_uri

SIDE = 80  # Pixels of the longer side.


def thumbnail(path: str, side: int = SIDE) -> str:
    """An image file, made small, as a data URI.

    Small images are enlarged by a whole factor first, so that their pixels stay sharp.

    Args:
        path (str): File, of any storage that MMEngine reads.
        side (int): Pixels of the longer side. Defaults to 80.

    Returns:
        str: Address that holds a PNG file.
    """
    with Image.open(io.BytesIO(fileio.get(path))) as file:
        image = file.convert('RGB')
    factor = math.ceil(side / max(image.size))
    size = (image.width * factor, image.height * factor)
    image = image.resize(size, Image.Resampling.NEAREST)
    image.thumbnail((side, side))
    content = io.BytesIO()
    image.save(content, format='PNG', optimize=True)
    return data_uri(content.getvalue(), 'png')
