import os

import numpy as np
import pytest
from PIL import Image, ImageOps

from mmselfsup_invp.datasets import LoadImage

from .. import toy


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (48, 40, 3)).astype(np.uint8)


def test_an_image_is_loaded_in_bgr(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / 'fine.png')
    results = LoadImage()(dict(img_path=str(tmp_path / 'fine.png'), sample_idx=3))
    assert np.array_equal(results['img'], pixels[..., ::-1])
    assert results['img'].dtype == np.uint8 and results['sample_idx'] == 3
    assert results['img_shape'] == results['ori_shape'] == (48, 40)


def test_a_grey_image_has_three_channels(tmp_path, pixels):
    Image.fromarray(pixels[..., 0]).save(tmp_path / 'grey.png')
    image = LoadImage()(dict(img_path=str(tmp_path / 'grey.png')))['img']
    assert np.array_equal(image, np.repeat(pixels[..., :1], 3, axis=2))


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize(
    ('suffix', 'backend'),
    [
        ('jpg', 'cv2'),
        ('png', 'cv2'),
        ('tiff', 'cv2'),
        ('jpg', 'pillow'),
        ('webp', 'cv2'),
        ('webp', 'pillow'),
    ],
)
def test_the_exif_orientation_is_applied(tmp_path, pixels, suffix, backend, orientation):
    path = tmp_path / f'photo.{suffix}'
    exif = Image.Exif()
    exif[0x0112] = orientation
    smooth = Image.fromarray(pixels[:6, :5]).resize((40, 48))
    options = dict(lossless=True) if suffix == 'webp' else {}
    smooth.save(path, exif=exif, quality=100, **options)
    with Image.open(path) as photo:
        upright = np.asarray(ImageOps.exif_transpose(photo).convert('RGB'), dtype=int)
    image = LoadImage(imdecode_backend=backend)(dict(img_path=str(path)))['img']
    assert image.shape == ((48, 40, 3) if orientation <= 4 else (40, 48, 3))
    assert np.abs(image[..., ::-1] - upright).max() <= 3  # Decoders of JPEG round differently.


@pytest.mark.parametrize('suffix', ['jpg', 'png'])
@pytest.mark.parametrize('part', [0.02, 0.5, 0.98])
def test_a_truncated_image_is_named(tmp_path, pixels, suffix, part):
    path = tmp_path / f'cut.{suffix}'
    Image.fromarray(pixels).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    assert_named(path)


def test_what_is_no_image_is_named(tmp_path):
    path = tmp_path / 'text.jpg'
    path.write_text('not an image')
    assert_named(path)
    path.write_bytes(b'')
    assert_named(path)


def test_a_missing_file_is_named(tmp_path):
    assert_named(tmp_path / 'missing.png', 'FileNotFoundError')


def test_a_fifo_is_refused(tmp_path):
    """Opening it would block until something writes to it."""
    os.mkfifo(tmp_path / 'fifo.png')
    assert_named(tmp_path / 'fifo.png', 'not a regular file')


def test_a_name_that_is_not_utf8(tmp_path, pixels):
    path = os.fsdecode(os.fsencode(tmp_path) + b'/caf\xe9.png')
    Image.fromarray(pixels).save(path)
    assert np.array_equal(LoadImage()(dict(img_path=path))['img'], pixels[..., ::-1])
    os.truncate(path, 100)
    with pytest.raises(RuntimeError, match=r'Cannot read the image .*/caf\\xe9.png') as raised:
        LoadImage()(dict(img_path=path))
    str(raised.value).encode()  # Can be printed and logged.


def test_the_message_comes_through_a_worker(tmp_path):
    root = toy.image_folder(tmp_path / 'images', images=4)
    (root / 'train' / '002.png').write_bytes(b'broken')
    loader = toy.build_loader(toy.loader(root, batch_size=2, num_workers=1))
    with pytest.raises(RuntimeError, match=r'Cannot read the image .*train/002\.png'):
        list(loader)
    toy.stop_workers(loader)


def assert_named(path, cause=''):
    with pytest.raises(RuntimeError) as raised:
        LoadImage()(dict(img_path=str(path), sample_idx=0))
    message = str(raised.value)
    assert message.startswith(f'Cannot read the image {path} (') and cause in message
    assert 'remove it from the folder or its line from the list' in message
    assert type(raised.value).__name__ == 'UnreadableImage'
