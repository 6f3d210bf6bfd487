"""Views of a whole batch by kornia: what they are, and that a resumed run goes on with them."""

import sys

import pytest
import torch
from torchvision.transforms import functional as tv

from mmselfsup_invp.models import AugmentingDataPreprocessor
from mmselfsup_invp.structures import SampleBatch

from .. import toy
from ..engine.recording import Watch

MEAN, STD = [120.0, 110.0, 100.0], [50.0, 60.0, 70.0]
VIEWS = [
    dict(type='RandomResizedCrop', size=(16, 16), scale=(0.5, 1.0), cropping_mode='resample'),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, p=0.8),
    dict(type='RandomGrayscale', p=0.2),
    dict(type='RandomGaussianBlur', kernel_size=(3, 3), sigma=(0.1, 2.0), p=0.5),
    dict(type='RandomHorizontalFlip', p=0.5),
]


@pytest.fixture
def kornia():
    return pytest.importorskip('kornia')


def batch(size=16, count=6):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, size, size), generator=generator)
    return dict(
        inputs=[images.to(torch.uint8)], data_samples=SampleBatch(toy.samples(*range(count)))
    )


def normalised(image):
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (image - mean) / std


def preprocessor(transforms, **options):
    options = dict(mean=MEAN, std=STD, bgr_to_rgb=True) | options
    return AugmentingDataPreprocessor(transforms, **options)


class TestViews:
    def test_without_transforms_are_the_images(self, kornia):
        (view,), samples = preprocessor([])(batch(), True)
        assert view.dtype == torch.float32
        torch.testing.assert_close(view, normalised(batch()['inputs'][0][:, [2, 1, 0]].float()))
        assert samples.ids.tolist() == list(range(6))

    def test_are_random_only_in_training(self, kornia):
        model = preprocessor(VIEWS)
        (same,), _ = model(batch(), False)
        torch.testing.assert_close(same, normalised(batch()['inputs'][0][:, [2, 1, 0]].float()))
        (view,), _ = model(batch(), True)
        assert not torch.equal(view, same)

    def test_are_of_another_size_where_cropped(self, kornia):
        (view,), _ = preprocessor(VIEWS)(batch(size=24), True)
        assert view.shape == (6, 3, 16, 16) and view.isfinite().all()

    def test_follow_the_random_state_and_differ_by_image_and_view(self, kornia):
        model = preprocessor(VIEWS, num_views=2)
        data = batch()
        data['inputs'] = [data['inputs'][0][:1].expand(6, -1, -1, -1).clone()]
        torch.manual_seed(3)
        first, second = model(data, True)[0]
        torch.manual_seed(3)
        again = model(data, True)[0]
        assert torch.equal(first, again[0]) and torch.equal(second, again[1])
        assert not torch.equal(first, second)
        assert len({tuple(one.flatten().tolist()) for one in first}) == 6
        torch.manual_seed(4)
        assert not torch.equal(model(data, True)[0][0], first)

    def test_colours_are_those_of_torchvision(self, kornia):
        """Up to the rounding of torchvision's path, which holds bytes; the factors are fixed."""
        image = batch()['inputs'][0][:, [2, 1, 0]]
        for name, factor in (('brightness', 1.3), ('contrast', 0.7), ('saturation', 1.4)):
            jitter = dict(type='ColorJitter', p=1.0, **{name: (factor, factor)})
            (view,), _ = preprocessor([jitter], mean=None, std=None)(batch(), True)
            expected = getattr(tv, f'adjust_{name}')(image, factor).float()
            assert (view - expected).abs().max() <= 1.5, name
        (grey,), _ = preprocessor([dict(type='RandomGrayscale', p=1.0)], mean=None, std=None)(
            batch(), True
        )
        assert (grey - tv.rgb_to_grayscale(image, 3).float()).abs().max() <= 1.5

    def test_stay_float32_under_autocast(self, kornia):
        model = preprocessor(VIEWS)
        torch.manual_seed(3)
        (expected,), _ = model(batch(), True)
        torch.manual_seed(3)
        with torch.autocast('cpu', torch.bfloat16):
            (view,), _ = model(batch(), True)
        assert torch.equal(view, expected)

    def test_by_the_loader_are_refused(self, kornia):
        data = batch()
        data['inputs'] *= 2
        with pytest.raises(ValueError, match='provides 2 views of an image'):
            preprocessor([])(data, True)

    def test_have_no_state(self, kornia):
        assert set(preprocessor(VIEWS).state_dict()) == set(preprocessor([]).state_dict())


class TestOptions:
    def test_an_unknown_augmentation_is_named(self, kornia):
        with pytest.raises(ValueError, match="has no 'Nothing'.*such as 'RandomResizedCrop'"):
            preprocessor([dict(type='Nothing')])

    def test_no_views_are_refused(self):
        with pytest.raises(
            ValueError, match='num_views = 0 is not valid. It must be an integer from 1'
        ):
            preprocessor([], num_views=0)

    def test_without_kornia_the_error_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, 'kornia', None)
        monkeypatch.setitem(sys.modules, 'kornia.augmentation', None)
        with pytest.raises(ImportError, match='not installed: pip install kornia'):
            preprocessor(VIEWS)


@pytest.mark.parametrize('name', ['InvP', 'MomentumInvP'])
def test_a_resumed_run_equals_the_uninterrupted_one(kornia, images, tmp_path, name):
    views = 2 if name == 'MomentumInvP' else 1
    own = dict(
        type='AugmentingDataPreprocessor', transforms=VIEWS, num_views=views, mean=MEAN, std=STD
    )
    memory = dict(length=20) if views == 2 else {}

    def run(folder, epochs, num_workers=0, **changes):
        seen = []
        loader = toy.loader(images, num_workers=num_workers)
        loader['sampler']['shuffle'] = True
        runner = toy.build_runner(
            images,
            tmp_path / folder,
            epochs,
            model=toy.model_config(name, data_preprocessor=own, memory=memory),
            train_dataloader=loader,
            default_hooks=dict(checkpoint=dict(interval=1)),
            **changes,
        )

        def watch(runner):
            forward = runner.model.loss
            runner.model.loss = lambda inputs, *rest: (
                seen.append(inputs[0].clone()) or forward(inputs, *rest)
            )

        runner.register_hook(Watch('before_train', watch))
        runner.train()
        return runner.model.state_dict(), seen

    straight, seen = run('straight', 2)
    run('resumed', 1)
    resumed, later = run('resumed', 2, num_workers=1, resume=True)
    assert len(seen) == 6 and len(later) == 3
    for one, other in zip(seen[3:], later, strict=True):
        assert torch.equal(one, other)
    for key, value in straight.items():
        assert torch.equal(value, resumed[key]), key
