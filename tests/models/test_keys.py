"""Which parts go with the keys of a momentum encoder, and which need them."""

import pytest

from .. import toy

QUEUE = dict(type='PropagationQueue', feat_dim=toy.DIM, num_neighbours=2, length=20)


@pytest.mark.parametrize('name', ['InvP', 'MultiViewInvP'])
@pytest.mark.parametrize(
    ('part', 'config'), [('memory', QUEUE), ('head', dict(type='SoftInvPHead'))]
)
def test_parts_that_need_keys_are_refused_without_a_momentum_encoder(name, part, config):
    """Their rows would never change."""
    changes = toy.merged(toy.model_config(name), {part: config})
    with pytest.raises(ValueError, match=f'{config["type"]} needs the keys .* which {name} does'):
        toy.build_model(changes)


def test_keys_of_a_step_cannot_wait_for_the_end_of_the_epoch():
    memory = dict(type='PropagationMemory', feat_dim=toy.DIM, update='epoch')
    with pytest.raises(ValueError, match="update = 'epoch' does not go with a momentum encoder"):
        toy.build_model(toy.model_config('MomentumInvP', memory=memory))
