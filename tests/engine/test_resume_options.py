"""A run that resumes with other options than it was saved with."""

import pytest
import torch

from mmselfsup_invp.engine import SelfLabelHook
from mmselfsup_invp.engine.hooks.checkpoint_hook import NonFiniteWeights
from mmselfsup_invp.memory import NonFiniteFeatures

from .. import toy
from .recording import Watch

SAVE = dict(default_hooks=dict(checkpoint=dict(interval=1, max_keep_ckpts=1)))


def rates(images, folder, epochs, lr, resume=False, **wrapper):
    """Learning rates of the parameter groups in every step."""
    seen = []
    watch = Watch(
        'before_train_iter',
        lambda r, **_: seen.append([g['lr'] for g in r.optim_wrapper.param_groups]),
    )
    wrapper = toy.merged(wrapper, dict(optimizer=dict(lr=lr)))
    runner = toy.build_runner(images, folder, epochs, resume=resume, optim_wrapper=wrapper, **SAVE)
    runner.register_hook(watch)
    runner.train()
    return seen


def logs(folder):
    return ''.join(path.read_text() for path in folder.glob('*/*.log'))


def names(folder):
    return [path.name for path in folder.glob('*.pth*')]


@pytest.mark.parametrize(
    'groups',
    [{}, dict(optimizer=dict(weight_decay=1e-4), paramwise_cfg=dict(norm_decay_mult=0.0))],
)
def test_a_changed_rate_takes_effect(images, tmp_path, groups):
    straight = rates(images, tmp_path / 'straight', 3, 0.01, **groups)
    rates(images, tmp_path / 'resumed', 1, 0.1, **groups)
    resumed = rates(images, tmp_path / 'resumed', 3, 0.01, resume=True, **groups)
    assert len(resumed) == 6
    for one, other in zip(resumed, straight[3:], strict=True):
        assert one == pytest.approx(other)
    assert 'initial learning rate is 0.01 in the config and 0.1 in the checkpoint' in logs(
        tmp_path / 'resumed'
    )


def test_an_equal_rate_changes_nothing(images, tmp_path):
    straight = rates(images, tmp_path / 'straight', 3, 0.1)
    rates(images, tmp_path / 'resumed', 1, 0.1)
    assert rates(images, tmp_path / 'resumed', 3, 0.1, resume=True) == straight[3:]
    assert 'in the checkpoint' not in logs(tmp_path / 'resumed')


def test_a_run_that_exploded_continues_with_a_lower_rate(images, tmp_path):
    """What the documentation advises."""
    rates(images, tmp_path, 1, 0.1)
    with pytest.raises((NonFiniteFeatures, NonFiniteWeights)):
        rates(images, tmp_path, 3, 1e18, resume=True)
    assert names(tmp_path) == ['epoch_1.pth']
    assert len(rates(images, tmp_path, 3, 0.01, resume=True)) == 6
    assert names(tmp_path) == ['epoch_3.pth']


def cosine(epochs):
    return dict(type='CosineAnnealingLR', T_max=epochs, by_epoch=True, begin=0, end=epochs)


WARM_UP = dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=4)


@pytest.mark.parametrize(
    ('before', 'after'),
    [
        ([cosine(2)], [cosine(4)]),
        ([cosine(2)], [WARM_UP, cosine(4)]),
        ([cosine(2)], [dict(type='MultiStepLR', milestones=[1, 3], gamma=0.5, by_epoch=True)]),
        ([WARM_UP, cosine(2)], [dict(cosine(4), convert_to_iter_based=True)]),
    ],
)
def test_a_changed_schedule_takes_effect(images, tmp_path, before, after):
    """The rates are those of a run that had this schedule from the start."""

    def train(folder, epochs, schedule, resume=False):
        seen = []
        runner = toy.build_runner(
            images, folder, epochs, resume=resume, param_scheduler=schedule, **SAVE
        )
        watch = Watch(
            'before_train_iter', lambda r, **_: seen.append(r.optim_wrapper.param_groups[0]['lr'])
        )
        runner.register_hook(watch)
        runner.train()
        return seen

    straight = train(tmp_path / 'straight', 4, after)
    train(tmp_path / 'resumed', 2, before)
    resumed = train(tmp_path / 'resumed', 4, after, resume=True)
    assert len(resumed) == 6 and len(set(straight[6:])) > 1
    assert resumed == pytest.approx(straight[6:])
    assert 'another schedule than the checkpoint' in logs(tmp_path / 'resumed')


def test_changed_options_of_the_optimiser_take_effect(images, tmp_path):
    rates(images, tmp_path, 1, 0.1)
    options = dict(optimizer=dict(weight_decay=0.25, momentum=0.5))
    rates(images, tmp_path, 2, 0.1, resume=True, **options)
    saved = torch.load(tmp_path / 'epoch_2.pth')['optimizer']['param_groups'][0]
    assert (saved['weight_decay'], saved['momentum']) == (0.25, 0.5)
    text = logs(tmp_path)
    assert 'momentum = 0.5 in the config and 0.9 in the checkpoint' in text
    assert 'weight_decay = 0.25 in the config and 0 in the checkpoint' in text


def test_a_run_resumed_with_another_batch_size_has_the_remaining_events(
    images, tmp_path, monkeypatch
):
    """An event belongs to a number of images seen."""
    events = []
    relabel = SelfLabelHook.relabel

    def recorded(hook, runner, event):
        events.append((runner.iter, event))
        relabel(hook, runner, event)

    monkeypatch.setattr(SelfLabelHook, 'relabel', recorded)

    def train(folder, epochs, **changes):
        label = dict(
            type='SelfLabelHook', num_events=8, schedule_epochs=4, spacing='linear', lambd=10.0
        )
        hooks = [dict(type='EpochSeedHook'), label]
        model = toy.sela_config()
        toy.build_runner(
            images, folder, epochs, model=model, custom_hooks=hooks, **SAVE, **changes
        ).train()

    loader = toy.loader(images, views=toy.VIEWS, batch_size=12)  # 2 iterations of 24 images.
    train(tmp_path / 'straight', 4, train_dataloader=loader)
    expected = [event for event in events if event[0] >= 4]
    train(tmp_path / 'resumed', 2)
    events.clear()
    train(tmp_path / 'resumed', 4, resume=True, train_dataloader=loader)
    assert expected and events == expected
