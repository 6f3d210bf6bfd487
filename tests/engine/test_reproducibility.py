"""The same seed gives the same run, and a resumed run is the run that was never interrupted."""

import pytest
import torch

from mmselfsup_invp.datasets import AugmentedViews

from .. import toy
from .methods import MODELS, changes, hook_config
from .recording import Watch, ids_of

SAVE = dict(default_hooks=dict(checkpoint=dict(interval=1)))
# Dropout, random positives, and labelling events: what draws from the random state.
RANDOM = dict(neck=dict(dropout=0.3), head=dict(loss=dict(hard_pos='random', num_hard=1)))
RANDOM_MODELS = dict(
    InvP=RANDOM,
    MomentumInvP=RANDOM,
    MultiViewInvP=RANDOM,
    SeLa=dict(neck=dict(hid_channels=(16,), dropout=0.5)),
)
# As if the first half of a run knew how long it will be; a ramp; updates at odd iterations.
OPTIONS = dict(
    InvP=dict(ramp='gaussian', ramp_epochs=2),
    MomentumInvP=dict(ramp='gaussian', ramp_epochs=2),
    MultiViewInvP=dict(ramp='gaussian', ramp_epochs=2),
    InterCLR=dict(centroid_interval=2, repair_interval=2),
    MomentumInterCLR=dict(centroid_interval=2, repair_interval=2),
    ODC=dict(centroid_interval=2, repair_interval=2),
    SeLa=dict(num_events=7, spacing='linear', schedule_epochs=4, lambd=10.0),
)


def run(images, work_dir, epochs=2, name='InvP', num_workers=0, batches=None, **config):
    """Train a model that draws from the random state in every way, with a kNN evaluation."""
    run = changes(name, images, loader=dict(num_workers=num_workers), **OPTIONS[name])
    run['model'] = toy.merged(run['model'], RANDOM_MODELS.get(name, {}))
    knn = dict(
        type='KNNEvalHook',
        gallery='backbone',
        query_dataloader=toy.loader(images, 'test'),
        gallery_dataloader=toy.loader(images, 'train'),
    )
    run['custom_hooks'].append(knn)
    if name == 'ODC':
        run['custom_hooks'].append(dict(type='ODCReweightHook', interval=4))
    runner = toy.build_runner(images, work_dir, epochs, **{**run, **SAVE, **config})
    if batches is not None:
        runner.register_hook(
            Watch('before_train_iter', lambda r, data_batch, **_: batches.append(data_batch))
        )
    runner.train()
    return runner


def assert_same(one, other):
    """Compare weights, statistics, memories and the optimiser's momentum bit by bit."""
    first, second = one.model.state_dict(), other.model.state_dict()
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    first, second = (runner.optim_wrapper.state_dict()['state'] for runner in (one, other))
    assert len(first) > 10
    for name, value in first.items():
        if value['momentum_buffer'] is not None:
            assert torch.equal(value['momentum_buffer'], second[name]['momentum_buffer'])


def differ(one, other):
    first, second = one.model.state_dict(), other.model.state_dict()
    return not torch.equal(first['backbone.conv1.weight'], second['backbone.conv1.weight'])


@pytest.mark.parametrize(
    ('name', 'num_workers'),
    [
        *((name, 0) for name in MODELS),
        *(pytest.param(name, 2, marks=pytest.mark.slow) for name in ('InvP', 'InterCLR', 'SeLa')),
    ],
)
def test_a_resumed_run_equals_the_uninterrupted_one(images, tmp_path, name, num_workers):
    options = dict(name=name, num_workers=num_workers)
    straight = run(images, tmp_path / 'straight', 4, **options)
    half = run(images, tmp_path / 'resumed', 2, **options)
    assert half.epoch == 2
    resumed = run(images, tmp_path / 'resumed', 4, resume=True, **options)
    assert resumed.epoch == 4 and resumed.iter == straight.iter == 12
    assert differ(half, resumed)
    assert_same(straight, resumed)


WITHIN = dict(default_hooks=dict(checkpoint=dict(interval=1, by_epoch=False, max_keep_ckpts=-1)))


def resumed_at(images, tmp_path, iteration, **options):
    """A run of 3 epochs of 3 iterations, and one resumed from a checkpoint of it."""
    straight = run(images, tmp_path / 'straight', 3, **options, **WITHIN)
    checkpoint = tmp_path / 'straight' / f'iter_{iteration}.pth'
    resume = dict(resume=True, load_from=str(checkpoint))
    return straight, run(images, tmp_path / 'resumed', 3, **options, **WITHIN, **resume)


@pytest.mark.parametrize(
    ('name', 'iteration', 'num_workers'),
    [
        *((name, 4, 0) for name in MODELS),
        *(pytest.param('InvP', iteration, 0, marks=pytest.mark.slow) for iteration in (3, 5, 6)),
        pytest.param('SeLa', 5, 2, marks=pytest.mark.slow),
    ],
)
def test_a_run_resumed_within_an_epoch_equals_the_uninterrupted_one(
    images, tmp_path, name, iteration, num_workers
):
    batches = []
    options = dict(name=name, num_workers=num_workers, batches=batches)
    straight, resumed = resumed_at(images, tmp_path, iteration, **options)
    assert resumed.iter == straight.iter == 9 and resumed.epoch == 3
    assert_same(straight, resumed)
    assert len(batches) == 9 + 9 - iteration  # No batch is loaded again.
    for one, other in zip(batches[iteration:], batches[9:], strict=False):
        assert torch.equal(ids_of(one), ids_of(other))


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('InvP', dict(refresh='epoch')),
        ('InvP', dict(mutual_share=0.05)),
        ('InterCLR', dict(offline_interval=1)),
    ],
)
def test_what_happens_at_the_start_of_an_epoch_is_not_repeated(images, tmp_path, name, options):
    hooks = [dict(type='EpochSeedHook'), hook_config(name, images, **options)]
    assert_same(*resumed_at(images, tmp_path, 4, name=name, custom_hooks=hooks))


def test_the_images_seen_count_with_another_batch_size(images, tmp_path):
    """After 8 of 24 images, a run with batches of 4 has 4 left in that epoch."""
    run(images, tmp_path / 'first', 1, **WITHIN)
    batches = []
    loader = toy.loader(images, views=toy.VIEWS, batch_size=4)
    resume = dict(resume=True, load_from=str(tmp_path / 'first' / 'iter_1.pth'))
    run(
        images, tmp_path / 'second', 1, batches=batches, train_dataloader=loader, **WITHIN, **resume
    )
    assert len(batches) == 4
    ids = torch.cat([ids_of(batch) for batch in batches])
    assert len(ids.unique()) == 16


def test_the_same_seed_gives_the_same_run_and_another_another(images, tmp_path):
    runs = [
        run(images, tmp_path / str(i), randomness=dict(seed=seed))
        for i, seed in enumerate((5, 5, 6))
    ]
    assert_same(*runs[:2])
    assert differ(runs[0], runs[2])


@pytest.mark.parametrize('name', ['InvP', 'SeLa'])
def test_nothing_depends_on_the_number_of_workers(images, tmp_path, name):
    runs, seen = [], []
    for num_workers in (0, 1, 2):
        batches, folder = [], tmp_path / str(num_workers)
        runs.append(run(images, folder, name=name, num_workers=num_workers, batches=batches))
        seen.append(batches)
    assert_same(*runs[:2])
    assert_same(*runs[1:])
    assert len(seen[0]) == 6
    for batches in seen[1:]:
        for one, other in zip(seen[0], batches, strict=True):
            assert torch.equal(ids_of(one), ids_of(other))
            assert torch.equal(one['inputs'][0], other['inputs'][0])


def test_views_differ_by_epoch_and_run(images, tmp_path):
    def views(seed):
        batches = []
        run(images, tmp_path / str(seed), batches=batches, randomness=dict(seed=seed))
        return [
            {
                int(i): image
                for batch in batches[part]
                for i, image in zip(ids_of(batch), batch['inputs'][0], strict=True)
            }
            for part in (slice(3), slice(3, 6))
        ]

    first, second = views(0)
    other, _ = views(1)
    assert len(first) == 24
    for image in range(24):
        assert not torch.equal(first[image], second[image])
        assert not torch.equal(first[image], other[image])


def test_without_the_seed_hook_resuming_would_differ(images, tmp_path):
    """The tests above depend on the hook."""
    hooks = [dict(type='PropagationMemoryHook', ramp='gaussian', ramp_epochs=2)]
    straight = run(images, tmp_path / 'straight', 4, custom_hooks=hooks)
    run(images, tmp_path / 'resumed', 2, custom_hooks=hooks)
    resumed = run(images, tmp_path / 'resumed', 4, resume=True, custom_hooks=hooks)
    assert differ(straight, resumed)


def test_transforms_are_seeded_through_wrappers_and_nesting(images, tmp_path):
    """In a repeated data set, and inside a transform of mmcv."""
    loader = toy.loader(images, views=toy.VIEWS)
    pipeline = loader['dataset']['pipeline']
    pipeline[1] = dict(type='mmcv.RandomApply', transforms=[pipeline[1]], prob=1.0)
    loader['dataset'] = dict(type='RepeatDataset', times=2, dataset=loader['dataset'])
    runner = run(images, tmp_path, 2, train_dataloader=loader, randomness=dict(seed=5))
    transform = runner.train_dataloader.dataset.dataset.pipeline.transforms[1]
    (views,) = transform.transforms.transforms
    assert type(views) is AugmentedViews
    assert views.epoch_seed.tolist() == [5, 1]  # The seed, and the last epoch from 0.
