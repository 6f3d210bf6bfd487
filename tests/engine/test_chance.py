"""The chance level is the loss of a head whose queries are equally similar to all rows."""

import math

import pytest
import torch

from mmselfsup_invp.compat.host import MODELS
from mmselfsup_invp.engine.chance import chance_levels
from mmselfsup_invp.models.memories import PropagationMemory

from .. import toy

ROWS, ANCHOR = 30, torch.arange(8)
SAMPLING = dict(type='HardSamplingLoss', num_hard=4)


@pytest.mark.parametrize('num_background', [10, 29, 4096])
@pytest.mark.parametrize(
    'head',
    [
        dict(type='InvPHead', loss=SAMPLING),
        dict(type='InvPHead', loss=SAMPLING, lambda_ins=0.3),
        dict(type='InvPHead', loss=dict(SAMPLING, instance_background='topm')),
        dict(type='InvPHead', loss=dict(SAMPLING, hard_neg=False)),
        dict(type='SoftInvPHead'),
        dict(type='SoftInvPHead', propagation=0),
    ],
)
def test_levels_of_invp(head, num_background):
    change = dict(num_background=num_background)
    head = toy.merged(head, dict(loss=change) if 'loss' in head else change)
    loss = head_loss(MODELS.build(head))
    ((name, level),) = chance_levels(MODELS.build(head), ROWS).items()
    torch.testing.assert_close(float(loss[name]), level, rtol=1e-4, atol=1e-4)


def test_a_soft_target_over_all_rows():
    head = MODELS.build(dict(type='SoftInvPHead', num_background=None))
    assert chance_levels(head, ROWS) == {'loss_soft': math.log(ROWS)}
    torch.testing.assert_close(float(head_loss(head)['loss_soft']), math.log(ROWS))


def head_loss(head):
    """Losses of queries that are orthogonal to all rows of the bank."""
    memory = PropagationMemory(feat_dim=toy.DIM, num_neighbours=2, length=ROWS)
    rows = toy.rows(ROWS)
    rows[:, 0] = 0
    memory.bank.copy_(torch.nn.functional.normalize(rows))
    memory.rebuild_graph()
    query = torch.zeros(len(ANCHOR), toy.DIM)
    query[:, 0] = 1
    return head(query, ANCHOR, memory)


def test_the_level_of_labels_is_that_of_equal_logits():
    head = MODELS.build(dict(type='SelfLabelHead', in_channels=4, num_classes=7, num_heads=2))
    torch.nn.init.zeros_(head.classifiers.bias)
    loss = head(torch.zeros(5, 4), torch.randint(7, (5, 2)))['loss']
    torch.testing.assert_close(chance_levels(head)['loss'], float(loss))


def test_an_instance_loss_without_weight_has_none():
    assert chance_levels(MODELS.build(dict(type='InvPHead', lambda_ins=0)), ROWS) == {}


def test_losses_with_margins_have_none():
    assert chance_levels(MODELS.build(dict(type='BankMarginHead'))) == {}
