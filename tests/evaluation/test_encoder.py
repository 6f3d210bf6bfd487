import numpy as np
import pytest
import torch
from PIL import Image

from mmselfsup_invp.evaluation import Encoder, read_backbone
from mmselfsup_invp.evaluation.network import build_backbone

from ..checkpoints import save_checkpoint

ORIENTATION = 0x0112


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp('run') / 'epoch_3.pth')


@pytest.fixture(scope='module')
def encoder(checkpoint):
    return Encoder(checkpoint, device='cpu')


def save(path, pixels, orientation=None):
    exif = Image.Exif()
    if orientation:
        exif[ORIENTATION] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return str(path)


def pixels(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_feature_is_the_pooled_last_map_of_the_normalised_image(encoder, checkpoint, tmp_path):
    """An image of the training size is neither resized nor cropped."""
    image = pixels(16, 16)
    feature = encoder.features([save(tmp_path / '1.png', image)])
    network = build_backbone(read_backbone(checkpoint))
    inputs = (torch.from_numpy(image).permute(2, 0, 1)[None].float() - 127.5) / 127.5
    with torch.no_grad():
        expected = network(inputs)[-1].mean(dim=(2, 3))
    torch.testing.assert_close(torch.from_numpy(feature), expected / expected.norm())


def test_the_centre_of_images_of_any_size_is_taken(encoder, tmp_path):
    image = pixels(16, 40)
    files = [save(tmp_path / '1.png', image), save(tmp_path / '2.png', image[:, 12:28])]
    files += [save(tmp_path / '3.png', pixels(7, 5)), save(tmp_path / '4.png', pixels(50, 30))]
    one, two, *others = encoder.features(files)
    np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm([one, *others], axis=1), 1, rtol=1e-5)


def test_images_are_turned_upright(encoder, tmp_path):
    image = pixels(16, 16)
    lying = save(tmp_path / 'lying.png', np.rot90(image).copy(), orientation=6)
    upright, turned = encoder.features([save(tmp_path / 'upright.png', image), lying])
    np.testing.assert_allclose(upright, turned, rtol=1e-5, atol=1e-6)


def test_batches_name_unreadable_images(encoder, tmp_path):
    files = [save(tmp_path / f'{number}.png', pixels(16, 16, number)) for number in range(5)]
    for row in (0, 3):
        (tmp_path / f'{row}.png').write_bytes(b'no image')
    batches = list(encoder.batches(files, batch_size=3))
    assert [batch.rows for batch in batches] == [[1, 2], [4]]
    assert [batch.unreadable for batch in batches] == [{0: 'no image'}, {3: 'no image'}]
    (alone,) = encoder.batches(files[:1])
    assert alone.rows == [] and alone.features.shape == (0, encoder.dimensions)
    with pytest.raises(ValueError, match='Cannot read the image .*0.png'):
        encoder.features(files)


def test_workers_change_nothing(encoder, tmp_path):
    files = [save(tmp_path / f'{number}.png', pixels(20, 16, number)) for number in range(6)]
    np.testing.assert_array_equal(
        encoder.features(files, num_workers=0), encoder.features(files, num_workers=2)
    )


def test_the_key_names_what_determines_a_feature(encoder, checkpoint):
    assert Encoder(checkpoint, device='cpu').key == encoder.key
    others = [
        Encoder(checkpoint, size=8, device='cpu'),
        *(Encoder(checkpoint, None, 'cpu', random_init=True, seed=seed) for seed in (0, 1)),
    ]
    assert others[0].size == (8, 8)
    assert len({encoder.key, *(other.key for other in others)}) == 4


def test_a_diverged_network_is_an_error(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=False)
    content['state_dict']['backbone.conv1.weight'].fill_(torch.nan)
    torch.save(content, tmp_path / 'epoch_3.pth')
    with pytest.raises(ValueError, match='NaN or infinite values in conv1.weight'):
        Encoder(tmp_path / 'epoch_3.pth', device='cpu')


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_a_gpu_gives_the_same_features(encoder, checkpoint, tmp_path):
    files = [save(tmp_path / f'{number}.png', pixels(16, 16, number)) for number in range(4)]
    on_gpu = Encoder(checkpoint, device='cuda')
    np.testing.assert_allclose(on_gpu.features(files), encoder.features(files), atol=1e-4)
    np.testing.assert_array_equal(on_gpu.features(files), on_gpu.features(files))
