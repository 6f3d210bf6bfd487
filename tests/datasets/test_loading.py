import numpy as np
import pytest
from PIL import Image

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
    assert 'take it out of the folder, or its line out of the list' in message
    assert type(raised.value).__name__ == 'UnreadableImage'
