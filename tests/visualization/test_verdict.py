import math
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import ConfigDict
from torch import nn

from mmselfsup_invp.evaluation import Curve, read_run
from mmselfsup_invp.models.memories import ClusterMemory, ODCClusterMemory
from mmselfsup_invp.visualization import ReportOptions
from mmselfsup_invp.visualization.blocks import Unavailable
from mmselfsup_invp.visualization.run_data import RunData
from mmselfsup_invp.visualization.verdict import advice_of, assess, edge_similarity, verdict

from .. import toy


def run(method='InvP', losses=(5.0, 4.0), logged=None):
    """A run of two epochs of two iterations each."""
    losses = losses and [losses[0] + 0.1, losses[0] - 0.1, losses[1] + 0.1, losses[1] - 0.1]
    curves = {name: Curve([2.0], [value]) for name, value in (logged or {}).items()}
    if losses:
        name = 'loss_ins' if 'InvP' in method else 'loss'
        curves[name] = Curve([0.5, 1.0, 1.5, 2.0], losses)
    return SimpleNamespace(
        config=ConfigDict(model=dict(type=method)),
        state={'memory.bank': torch.zeros(1000, 4)},
        curves=curves,
    )


def assessed(found):
    """The verdict on a run whose chance level is that of 201 rows."""
    instance = 'InvP' in found.config.model.type
    return assess(found, {'loss_ins': math.log(201)} if instance else {})


def test_a_network_with_constant_features_has_the_chance_level(images, tmp_path):
    runner = toy.build_runner(
        images,
        tmp_path,
        2,
        model=dict(memory=dict(momentum=0.0)),
        optim_wrapper=dict(optimizer=dict(lr=0.0)),
        log_processor=dict(window_size=1),  # No smoothing.
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
    )
    *_, last = (part for part in runner.model.neck.modules() if isinstance(part, nn.Linear))
    nn.init.zeros_(last.weight)
    nn.init.ones_(last.bias)
    runner.model.init_weights = lambda: None
    runner.train()
    found = read_run(tmp_path)
    (card,) = verdict(RunData(found, ReportOptions()))
    assert found.curves['loss_ins'].value[-1] == pytest.approx(math.log(11), abs=1e-4)
    assert card.title == 'Collapsed' and card.advice.startswith('Try, in this order: a linear')
    assert ('chance level', '2.40; the loss is at 100% of it') in card.facts


@pytest.mark.parametrize(
    ('memory', 'words'), [(ClusterMemory, 'a linear neck'), (ODCClusterMemory, 'fewer clusters')]
)
def test_the_advice_is_that_of_the_hook_and_its_memory(memory, words):
    hook = dict(type='OnlineClusterHook', extract_dataloader={})
    hooks = dict(timer=dict(type='IterTimerHook'), knn=None, clusters=hook)
    config = ConfigDict(default_scope='mmselfsup', default_hooks=hooks)
    model = nn.ModuleDict(dict(memory=memory(2)))
    assert words in advice_of(SimpleNamespace(run=SimpleNamespace(config=config), model=model))


def all_words(found):
    facts = [f'{name} {value}' for name, value in found.facts]
    return ' '.join([found.title, found.text, found.advice, *facts])


@pytest.mark.parametrize(
    ('changes', 'state', 'title', 'words'),
    [
        (dict(losses=(5.3, 4.12)), 'good', 'Learning', ['loss_ins is 78%', 'chance level 5.30']),
        (dict(losses=(5.3, 4.12)), 'good', 'Learning', ['loss_ins 5.30 in the first', '4.12 in']),
        (dict(losses=(5.32, 5.24)), 'bad', 'Plateau', ['99%']),
        (dict(losses=(5.24, 5.24)), 'bad', 'Plateau', []),
        (dict(losses=(14.84, 8.3)), 'open', 'Too early to tell', ['157% of', 'max_epochs']),
        (dict(losses=(5.36, 5.24)), 'open', 'Too early to tell', []),
        (
            dict(logged={'features/similarity': 0.97}),
            'bad',
            'Collapsed',
            ['0.97'],
        ),
        (dict(logged={'graph/mean_norm': 0.98}), 'bad', 'Collapsed', ['similarity is 0.96']),
        (dict(logged={'graph/mean_norm': 0.97}), 'good', 'Learning', ['images 0.94']),
        (
            dict(method='InterCLR'),
            'open',
            'Not collapsed',
            ['InterCLR has no', '5.00 in the first'],
        ),
    ],
)
def test_the_verdict_states_the_reason_and_the_options(changes, state, title, words):
    found = assessed(run(**changes))
    assert (found.state, found.title) == (state, title)
    assert all(word in all_words(found) for word in words)


def with_graph(angle, weight=1.0, purity=(40.0,)):
    """A run that propagates, in which neighbours are at so many degrees."""
    angle = math.radians(angle)
    found = run(logged=dict(loss_inv=weight))
    found.curves['graph/purity_hop1'] = Curve([float(n + 1) for n in range(len(purity))], purity)
    pair = torch.tensor([[1.0, 0.0, 0, 0], [math.cos(angle), math.sin(angle), 0, 0]])
    found.state['memory.bank'] = torch.cat([pair, pair.roll(2, dims=1)] * 250)
    found.state['memory.neighbours'] = (torch.arange(1000) ^ 1)[:, None].repeat(1, 2)
    found.state['memory.neighbours'][:, 1] = -1  # No edge.
    return found


def test_the_similarity_along_the_edges():
    found = with_graph(60)
    assert edge_similarity(found) == pytest.approx(0.5)
    assert 'similarity of neighbours 0.50' in all_words(assessed(found))
    found.state['memory.neighbours'][:] = -1
    assert edge_similarity(found) is None and edge_similarity(run()) is None


@pytest.mark.parametrize(
    ('angle', 'weight', 'purity', 'title'),
    [
        (5, 1.0, (40.0,), 'Overfitted graph'),
        (30, 1.0, (40.0,), 'Learning'),
        (5, 0.0, (40.0,), 'Learning'),  # The loss does not depend on the graph yet.
        (30, 1.0, (30.0, 41.0, 36.0), 'Overfitted graph'),
        (30, 1.0, (30.0, 41.0, 38.0), 'Learning'),
    ],
)
def test_an_overfitted_graph(angle, weight, purity, title):
    found = assessed(with_graph(angle, weight, purity))
    assert found.title == title
    assert ('model.head.hops' in found.advice) == (title == 'Overfitted graph')
    if purity[-1] == 36:
        assert 'from 41 % in epoch 2 to 36 %' in found.text


def test_a_plateau_is_a_loss_that_stays_over_the_last_quarter():
    long = run()
    for values, word in (([9.0, 7.0, 5.3, 5.2], 'Plateau'), ([9.0, 7.0, 5.6, 5.2], 'Too early')):
        long.curves['loss_ins'] = Curve([2.0, 4.0, 6.0, 8.0], values)
        assert assessed(long).title.startswith(word)
    long.curves['loss_ins'] = Curve([0.5], [5.3])
    assert assessed(long).title.startswith('Too early')


def test_there_is_no_verdict_without_a_loss():
    with pytest.raises(Unavailable, match='no loss'):
        assessed(run(losses=None))
