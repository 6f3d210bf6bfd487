"""A run that resumes with another learning rate than it was saved with."""

import pytest

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
