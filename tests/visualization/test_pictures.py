import base64
import io

import numpy as np
import pytest
from PIL import Image

from mmselfsup_invp.visualization.pictures import sprite_sheet, thumbnail


def decode(path):
    """The thumbnail of a file."""
    return decode_uri(thumbnail(str(path)))


def decode_uri(uri):
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
    """The 88 pictures of the retrieval take less than 0.2 MB."""
    noise = np.random.default_rng(0).normal(0, 12, (240, 320, 3))
    ramp = np.linspace(0, 255, 320)[None, :, None]
    Image.fromarray((ramp + noise).clip(0, 255).astype(np.uint8)).save(tmp_path / 'photo.jpg')
    assert len(thumbnail(str(tmp_path / 'photo.jpg'))) < 2000


def test_a_sheet_holds_the_centre_of_each_image_in_order(tmp_path):
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (220, 220, 30), (30, 220, 220)]
    for number, colour in enumerate(colours):
        wide = Image.new('RGB', (60, 20))
        wide.paste(colour, (20, 0, 40, 20))  # Only the centre has the colour.
        wide.save(tmp_path / f'{number}.png')
    uri, columns = sprite_sheet([str(tmp_path / f'{number}.png') for number in range(5)], 16)
    sheet = decode_uri(uri)
    assert columns == 3 and sheet.size == (48, 32)
    for number, colour in enumerate(colours):
        found = sheet.getpixel((number % 3 * 16 + 8, number // 3 * 16 + 8))
        assert np.abs(np.subtract(found, colour)).max() < 25


@pytest.mark.parametrize('content', [None, b'', b'no image'])
def test_an_unreadable_image_is_a_grey_tile(tmp_path, content):
    if content is not None:
        (tmp_path / 'broken.jpg').write_bytes(content)
    uri, _ = sprite_sheet([str(tmp_path / 'broken.jpg')], 16)
    assert decode_uri(uri).getpixel((8, 8)) == pytest.approx((128, 128, 128), abs=3)


def test_the_pictures_of_1000_photographs_are_small(tmp_path):
    random = np.random.default_rng(0)
    paths = []
    for number in range(50):
        smooth = Image.fromarray(random.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        pixels = np.asarray(smooth.resize((320, 240), Image.Resampling.BICUBIC)).astype(float)
        pixels = (pixels + random.normal(0, 12, pixels.shape)).clip(0, 255).astype(np.uint8)
        paths.append(str(tmp_path / f'{number}.jpg'))
        Image.fromarray(pixels).save(paths[-1])
    assert len(sprite_sheet(paths, 47)[0]) < 700_000 / 20
