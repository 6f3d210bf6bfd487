import random
import re

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as tv

from mmselfsup_invp.datasets import AugmentedViews, PILGaussianBlur
from mmselfsup_invp.datasets.transforms.views import build_torchvision

JITTER = [
    dict(type='RandomResizedCrop', size=12, scale=(0.2, 1.0)),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4),
    dict(type='RandomApply', transforms=[dict(type='PILGaussianBlur')], p=0.5),
]


def image(seed=0, size=20):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3)).astype(np.uint8)


def views_of(transform, index=0, seed=0):
    return transform(dict(img=image(seed), sample_idx=index))['img']


class Images(Dataset):
    """Augmented views of random images; in the module, so that it can be pickled."""

    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return np.stack(views_of(self.transform, index, seed=index))


class TestAugmentedViews:
    def test_channels_keep_their_order(self):
        transform = AugmentedViews([dict(type='CenterCrop', size=20)])
        (view,) = views_of(transform)
        assert np.array_equal(view, image())
        assert view.dtype == np.uint8 and view.shape == (20, 20, 3)

    def test_transforms_see_rgb(self):
        """The luma weights of the three channels differ."""
        transform = AugmentedViews([dict(type='Grayscale', num_output_channels=3)])
        (view,) = views_of(transform)
        luma = np.asarray(Image.fromarray(image()[..., ::-1].copy()).convert('L'))
        assert np.array_equal(view, np.repeat(luma[..., None], 3, axis=2))

    def test_transforms_are_applied_in_order(self):
        pipeline = [dict(type='CenterCrop', size=10), dict(type='Pad', padding=3)]
        assert views_of(AugmentedViews(pipeline))[0].shape == (16, 16, 3)
        assert views_of(AugmentedViews(pipeline[::-1]))[0].shape == (10, 10, 3)

    def test_views_of_an_image_differ(self):
        transform = AugmentedViews(JITTER, num_views=3)
        for epoch in (None, 0):
            if epoch is not None:
                transform.set_epoch(0, epoch)
            views = views_of(transform)
            assert len(views) == 3
            assert not any(np.array_equal(views[a], views[b]) for a, b in ((0, 1), (0, 2), (1, 2)))

    def test_other_keys_stay(self):
        results = AugmentedViews(JITTER)(dict(img=image(), sample_idx=4, img_path='a.png'))
        assert results['sample_idx'] == 4 and results['img_path'] == 'a.png'

    def test_views_depend_on_seed_epoch_sample_and_number_alone(self):
        transform = AugmentedViews(JITTER, num_views=2)

        def view(seed, epoch, index, number, noise=0):
            random.seed(noise)
            np.random.seed(noise)
            torch.manual_seed(noise)
            transform.set_epoch(seed, epoch)
            return views_of(transform, index)[number]

        reference = view(1, 2, 3, 0)
        assert np.array_equal(reference, view(1, 2, 3, 0, noise=5))
        for other in ((2, 2, 3, 0), (1, 3, 3, 0), (1, 2, 4, 0), (1, 2, 3, 1), (2, 1, 3, 0)):
            assert not np.array_equal(reference, view(*other)), other
        # The order of loading does not matter.
        transform.set_epoch(1, 2)
        views_of(transform, 9)
        assert np.array_equal(reference, views_of(transform, 3)[0])

    def test_without_the_hook_the_global_seed_is_used(self):
        transform = AugmentedViews(JITTER)
        views = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            random.seed(seed)
            views.append(views_of(transform)[0])
        assert np.array_equal(views[0], views[1]) and not np.array_equal(views[0], views[2])

    @pytest.mark.parametrize('context', ['fork', 'spawn'])
    def test_persistent_workers_follow_the_epoch(self, context):
        """They hold a copy of the transform from the first epoch."""
        transform = AugmentedViews(JITTER, num_views=2)
        loader = DataLoader(
            Images(transform),
            batch_size=2,
            num_workers=1,
            persistent_workers=True,
            multiprocessing_context=context,
        )
        direct = Images(AugmentedViews(JITTER, num_views=2))
        epochs = []
        for epoch in range(3):
            transform.set_epoch(7, epoch)
            direct.transform.set_epoch(7, epoch)
            epochs.append(torch.cat(list(loader)).numpy())
            assert np.array_equal(epochs[-1], np.stack([direct[i] for i in range(6)]))
        assert not np.array_equal(epochs[0], epochs[1])

    @pytest.mark.parametrize(
        ('last', 'found'),
        [
            (dict(type='ToTensor'), 'Tensor'),
            (dict(type='Grayscale', num_output_channels=1), 'an image of mode L'),
        ],
    )
    def test_views_that_are_no_rgb_images_are_refused(self, last, found):
        """Reversing the last axis of a (3, H, W) tensor would mirror the image."""
        transform = AugmentedViews([*JITTER, last])
        with pytest.raises(ValueError, match=f'must return an RGB image.*found {found}'):
            views_of(transform)

    def test_num_views_must_be_positive(self):
        with pytest.raises(
            ValueError, match='num_views = 0 is not valid. It must be an integer from 1'
        ):
            AugmentedViews(JITTER, num_views=0)


class TestBuildTorchvision:
    def test_the_scope_of_an_inherited_config_is_ignored(self):
        crop = dict(type='CenterCrop', size=8, _scope_='mmselfsup_invp')
        apply = dict(type='RandomApply', transforms=[crop], p=1.0, _scope_='mmselfsup_invp')
        assert build_torchvision(apply).transforms[0].size == (8, 8)

    def test_arguments_and_nesting(self):
        built = build_torchvision(
            [
                dict(type='RandomResizedCrop', size=8, scale=(0.2, 1.0), interpolation='bicubic'),
                dict(
                    type='RandomApply',
                    transforms=[dict(type='PILGaussianBlur', sigma=(0.5, 0.6))],
                    p=0.25,
                ),
            ]
        )
        crop, apply = built.transforms
        assert type(crop) is tv.RandomResizedCrop and crop.size == (8, 8)
        assert crop.scale == (0.2, 1.0) and crop.interpolation is tv.InterpolationMode.BICUBIC
        assert apply.p == 0.25 and type(apply.transforms[0]) is PILGaussianBlur
        assert apply.transforms[0].sigma == (0.5, 0.6)

    def test_a_config_is_not_changed(self):
        config = dict(type='RandomApply', transforms=[dict(type='RandomCrop', size=3)], p=1.0)
        before = repr(config)
        build_torchvision(config)
        assert repr(config) == before

    @pytest.mark.parametrize('name', ['RandomResizedCropp', 'functional', 'transforms', '__doc__'])
    def test_unknown_names_are_refused(self, name):
        with pytest.raises(ValueError, match=re.escape(f'torchvision.transforms has no {name!r}')):
            build_torchvision(dict(type=name))

    def test_wrong_arguments_are_reported_by_torchvision(self):
        with pytest.raises(TypeError, match='sizes'):
            build_torchvision(dict(type='RandomCrop', sizes=3))


def test_blur_draws_its_radius_from_the_range():
    picture, radii = Image.fromarray(image()), []
    blur = PILGaussianBlur((0.5, 1.5))
    for seed in range(20):
        random.seed(seed)
        blurred = np.asarray(blur(picture))
        random.seed(seed)
        radii.append(random.uniform(0.5, 1.5))
        expected = picture.filter(ImageFilter.GaussianBlur(radii[-1]))
        assert np.array_equal(blurred, np.asarray(expected))
    assert min(radii) < 0.7 and max(radii) > 1.3
