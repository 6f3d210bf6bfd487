from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmselfsup_invp.engine.resume_checks import require_resumable

META = dict(epoch=0, iter=0)


def check(meta=META, **parts):
    """Check a checkpoint for a linear layer: parameters of shape (3, 2) and (3,)."""
    optimizer = torch.optim.SGD(nn.Linear(2, 3).parameters(), lr=0.1)
    runner = SimpleNamespace(optim_wrapper=SimpleNamespace(optimizer=optimizer))
    require_resumable(runner, dict(meta=meta, **parts))


@pytest.mark.parametrize(
    'state',
    [
        {},
        {0: dict(momentum_buffer=torch.zeros(3, 2)), 1: dict(momentum_buffer=torch.zeros(3))},
        {1: dict(step=torch.tensor(4.0), count=4, exp_avg=torch.zeros(3))},
    ],
)
def test_the_state_of_the_same_parameters_is_accepted(state):
    check()
    check(optimizer=dict(state=state))


@pytest.mark.parametrize(('index', 'shape'), [(0, (3,)), (1, (1,)), (2, (3,))])
def test_other_parameters_are_refused(index, shape):
    state = {index: dict(step=1, momentum_buffer=torch.zeros(shape))}
    message = rf'momentum_buffer of shape \({shape[0]},\) for parameter {index}'
    with pytest.raises(ValueError, match=message):
        check(optimizer=dict(state=state))


@pytest.mark.parametrize(
    ('meta', 'name'),
    [
        (None, 'epoch'),
        (dict(epoch=1), 'iter'),
        (META | dict(epoch=-1), 'epoch'),
        (META | dict(epoch=True), 'epoch'),
        (META | dict(iter=1.0), 'iter'),
    ],
)
def test_counters_that_are_missing_or_wrong_are_named(meta, name):
    with pytest.raises(ValueError, match=rf"meta\['{name}'\] is"):
        check(meta)
