"""The benchmark of a training step: both networks learn, one of them with the objective."""

import argparse

import pytest
import torch

from mmselfsup_invp.models import InvP

from .. import toy


@pytest.fixture
def step(benchmark_module):
    return benchmark_module('step')


def test_a_step_with_the_objective_and_without(step, images, tmp_path, monkeypatch):
    config = toy.runner_config(images, tmp_path)
    config.dump(tmp_path / 'toy.py')
    args = argparse.Namespace(
        config=str(tmp_path / 'toy.py'), cfg_options=None, num=40, batch=6, size=16, device='cpu',
        precision='float32',
    )  # fmt: skip
    models, make_model = [], step.make_model

    def kept(*arguments):
        models.append(make_model(*arguments))
        return models[-1]

    monkeypatch.setattr(step, 'make_model', kept)
    steps = step.steps(args)
    assert list(steps) == ['with the objective', 'without']
    whole, plain = (model for model, _ in models)
    assert isinstance(whole, InvP) and len(whole.memory) == 40
    torch.testing.assert_close(whole.state_dict(), plain.state_dict())
    bank, weight = whole.memory.bank.clone(), whole.neck.state_dict()
    weight = {key: value.clone() for key, value in weight.items()}
    losses = {name: take_step() for name, take_step in steps.items()}
    assert set(losses['with the objective']) >= {'loss', 'loss_ins', 'loss_inv'}
    assert losses['with the objective']['loss_inv'] > 0
    assert set(losses['without']) == {'loss'} and abs(losses['without']['loss']) < 1
    changed = (whole.memory.bank != bank).any(dim=1)
    assert changed.sum() == 6 and torch.equal(plain.memory.bank, bank)
    for model in (whole, plain):
        assert any((value != weight[key]).any() for key, value in model.neck.state_dict().items())
