import base64
import io

import numpy as np
import pytest
from PIL import Image

from mmselfsup_invp.visualization.pictures import thumbnail


def decode(path, **save):
    """The thumbnail of a file."""
    uri = thumbnail(str(path))
    content = base64.b64decode(uri.removeprefix('data:image/webp;base64,'), validate=True)
    return Image.open(io.BytesIO(content))


def test_pixels_of_small_images_stay_sharp(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'small.png')
    found = np.asarray(decode(tmp_path / 'small.png')).astype(float)
    expected = pixels.repeat(10, axis=0).repeat(10, axis=1)[..., None]
    assert abs(found - expected).mean() < 6  # Of 255; WebP is lossy.


@pytest.mark.parametrize(('size', 'expected'), [((300, 150), (80, 40)), ((32, 32), (80, 80))])
@pytest.mark.parametrize('mode', ['RGB', 'L', 'RGBA'])
def test_all_sizes_and_modes_are_converted(tmp_path, size, expected, mode):
    Image.new(mode, size).save(tmp_path / 'image.png')
    picture = decode(tmp_path / 'image.png')
    assert picture.size == expected and picture.mode == 'RGB'


# Values of the EXIF orientation, and the corner of the upright image where the stored one's
# top left corner is shown.
@pytest.mark.parametrize(
    ('orientation', 'size', 'corner'),
    [
        (1, (80, 40), (0, 0)),
        (3, (80, 40), (-1, -1)),
        (6, (40, 80), (0, -1)),
        (8, (40, 80), (-1, 0)),
    ],
)
@pytest.mark.parametrize('suffix', ['jpg', 'png'])
def test_the_exif_orientation_is_applied(tmp_path, orientation, size, corner, suffix):
    pixels = np.zeros((100, 200, 3), dtype=np.uint8)
    pixels[:50, :50] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / f'photo.{suffix}', exif=exif)
    picture = decode(tmp_path / f'photo.{suffix}')
    assert picture.size == size
    found = np.asarray(picture).mean(axis=2) > 128
    assert found[corner[0], corner[1]] and found.mean() < 0.2


def test_a_thumbnail_of_a_photograph_is_small(tmp_path):
    """350 pictures of this size, as in a report of four anchors, take less than 0.7 MB."""
    noise = np.random.default_rng(0).normal(0, 12, (240, 320, 3))
    ramp = np.linspace(0, 255, 320)[None, :, None]
    Image.fromarray((ramp + noise).clip(0, 255).astype(np.uint8)).save(tmp_path / 'photo.jpg')
    assert len(thumbnail(str(tmp_path / 'photo.jpg'))) < 2000
