import pytest
from mmengine.config import Config

import mmselfsup_invp  # noqa: F401  (names mmselfsup_invp:: configs)
from mmselfsup_invp.cli.recipe import USE, Hardware, choose, expectation, settings_text
from mmselfsup_invp.config_checks import check_config

LAPTOP, SERVER = Hardware(cores=2), Hardware(cores=32, gpu='A GPU')


@pytest.mark.parametrize(
    ('num_images', 'side', 'hardware', 'expected'),
    [
        (1000, 480, LAPTOP, dict(image_size=64, depth=18, batch_size=32, num_background=None)),
        (5000, 480, LAPTOP, dict(image_size=64, depth=18, batch_size=64, num_workers=1)),
        (5000, 480, SERVER, dict(image_size=224, depth=18, epochs=200, num_workers=8)),
        (50_000, 200, SERVER, dict(image_size=128, depth=50, num_background=4096)),
        (100, 32, LAPTOP, dict(image_size=64, num_neighbours=6, epochs=200)),
    ],
)
def test_the_choice_depends_on_images_and_hardware(num_images, side, hardware, expected):
    recipe = choose(num_images, side, hardware)
    assert {name: getattr(recipe, name) for name in expected} == expected
    assert recipe.learning_rate == {32: 0.06, 64: 0.12, 128: 0.12}[recipe.batch_size]
    assert recipe.ramp_epochs == recipe.epochs // 2


def test_given_settings_replace_chosen_ones_and_what_follows_from_them():
    recipe = choose(1000, 480, LAPTOP, epochs=10, batch_size=64)
    assert (recipe.epochs, recipe.ramp_epochs) == (10, 5)
    assert (recipe.batch_size, recipe.learning_rate) == (64, 0.12)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(epoch=3), 'has no option epoch .*Did you mean epochs'),
        (dict(epochs=0), 'epochs = 0'),
        (dict(epochs='x'), 'epochs = '),
        (dict(image_size='large'), 'image_size'),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        choose(1000, 480, LAPTOP, **changes)


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match='63 images are too few to train on: at least 64'):
        choose(63, 480, LAPTOP)


@pytest.mark.parametrize(('side', 'num_images', 'blur'), [(64, 1000, False), (300, 50_000, True)])
def test_the_text_is_a_valid_config_that_uses_the_settings(tmp_path, side, num_images, blur):
    recipe = choose(num_images, side, SERVER)
    path = tmp_path / 'recipe.py'
    path.write_text(settings_text(recipe, "/my 'photos'", 'About.\nThem.') + USE)
    assert path.read_text().startswith('# About.\n# Them.\n_base_ = ')
    cfg = Config.fromfile(path)
    check_config(cfg)
    assert cfg.train_dataloader.dataset.data_root == "/my 'photos'"
    assert cfg.model.backbone.depth == recipe.depth
    assert cfg.model.neck.in_channels == (2048 if recipe.depth == 50 else 512)
    assert cfg.model.head.num_background == recipe.num_background
    assert cfg.optim_wrapper.optimizer.lr == recipe.learning_rate
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[0].T_max == recipe.epochs
    views = cfg.train_dataloader.dataset.pipeline[1]
    assert views.transforms[0].size == views.key_transforms[0].size == recipe.image_size
    assert ('GaussianBlur' in str(views.transforms)) == blur
    assert views.key_transforms[1].type == 'RandomHorizontalFlip'


def test_expectations_cover_all_numbers():
    texts = {expectation(num) for num in (64, 1000, 5000, 10**7)}
    assert len(texts) == 4 and max(map(len, texts)) < 98
