import base64
import io

import numpy as np
import pytest
from PIL import Image

from mmselfsup_invp.visualization.pictures import thumbnail


def shown(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix('data:image/png;base64,'))))


def test_pixels_of_small_images_stay_sharp(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'small.png')
    found = np.asarray(shown(thumbnail(str(tmp_path / 'small.png'))))
    assert np.array_equal(found, pixels.repeat(10, axis=0).repeat(10, axis=1))


@pytest.mark.parametrize(('size', 'expected'), [((300, 150), (80, 40)), ((32, 32), (80, 80))])
@pytest.mark.parametrize('mode', ['RGB', 'L', 'RGBA'])
def test_all_are_of_one_size(tmp_path, size, expected, mode):
    Image.new(mode, size).save(tmp_path / 'image.png')
    picture = shown(thumbnail(str(tmp_path / 'image.png')))
    assert picture.size == expected and picture.mode == 'RGB'
