"""Every method trains alike in one process, two and four, with its rows split or not."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, distributed

from mmselfsup_invp import ops
from mmselfsup_invp.engine import KNNEvalHook
from mmselfsup_invp.engine.hooks.common import unwrap
from mmselfsup_invp.memory import whole_state

from .. import toy
from .methods import changes, num_views
from .processes import OPTIONS, run_ranks
from .recording import Watch

pytestmark = pytest.mark.slow  # Several processes are started.

BATCH = 8  # Of all processes.
# The order of sums differs, and six steps add to the difference.
TOLERANCE = dict(atol=2e-5, rtol=1e-4)
# Two processes write other slots of a queue than one, unless its length is a multiple of the batch.
QUEUE = dict(length=16)
SHARD = dict(shard=True)
EXACT_BRANCH = dict(negatives='hard', exclude_self=True)
FROZEN = dict(backbone=dict(norm_eval=True))  # Statistics of a batch differ.
RUNS = {
    'InvP': ('InvP', {}),
    'MomentumInvP': ('MomentumInvP', dict(memory=QUEUE)),
    'MultiViewInvP': ('MultiViewInvP', {}),
    'SoftInvP': ('SoftInvP', {}),
    'InterCLR': ('InterCLR', dict(branch=EXACT_BRANCH)),
    'MomentumInterCLR': ('MomentumInterCLR', dict(branch=EXACT_BRANCH, queue=QUEUE)),
    'SeLa': ('SeLa', {}),
    'ODC': ('ODC', {}),
}
SHARDED = {
    'InvP': dict(memory=SHARD),
    'MultiViewInvP': dict(memory=SHARD),
    'SoftInvP': dict(memory=SHARD),
    'InterCLR': dict(branch=dict(EXACT_BRANCH, memory=SHARD)),
    'ODC': dict(memory_bank=SHARD),
}


def next_of_cluster(labels: Tensor, anchor_label: Tensor, anchor: Tensor) -> Tensor:
    """In place of a random draw, which depends on the process: the next row of the cluster."""
    steps = (torch.arange(len(labels)) - anchor[:, None] - 1) % len(labels)
    return steps.masked_fill(labels != anchor_label[:, None], len(labels)).argmin(dim=1)


def next_rows(anchor: Tensor, length: int, num: int) -> Tensor:
    """In place of uniform draws: the rows behind the anchor."""
    return (anchor[:, None] + 1 + torch.arange(num)) % length


@contextmanager
def fixed_draws() -> Iterator[None]:
    with (
        patch.object(ops, 'sample_positive', next_of_cluster),
        patch.object(ops, 'sample_uniform_negatives', next_rows),
    ):
        yield


# With all rows in every process, and with split rows.
ALL = [(name, False) for name in RUNS] + [(name, True) for name in SHARDED]


def train(images: Path, work_dir: Path, name: str, model: dict, count: int, **options) -> dict:
    """Train on batches of the same images; return losses, weights and the memory."""
    method, extra = RUNS[name]
    config = changes(method, images)
    for change in (FROZEN, extra, model):
        config['model'] = toy.merged(config['model'], change)
    config['train_dataloader'] = toy.loader(
        images, views=toy.VIEWS, num_views=num_views(method), batch_size=BATCH // count
    )
    config['default_hooks'] = dict(checkpoint=dict(type='CheckpointHook', interval=1))
    runner = toy.build_runner(images, work_dir, **config, **options)
    losses = []
    # The neck of ODC has dropout and normalises by the batch.
    runner.register_hook(Watch('before_train_iter', lambda run, **_: unwrap(run.model).neck.eval()))
    runner.register_hook(
        Watch('after_train_iter', lambda run, outputs, **_: losses.append(outputs['loss'].item()))
    )
    with fixed_draws():
        runner.train()
    knn = {}
    if name in SHARDED and name != 'ODC':
        hook = KNNEvalHook(toy.loader(images, 'test', batch_size=5), k=5)
        hook.before_run(runner)
        knn = hook.evaluate(runner)
    with whole_state(runner.model):
        state = {key: value.clone() for key, value in unwrap(runner.model).state_dict().items()}
    return dict(losses=torch.tensor(losses), state=state, knn=knn)


def scenarios(folder: Path, images: Path, runs: list, single: Path) -> dict:
    count = distributed.get_world_size()
    found = {}
    for name, sharded in runs:
        model = SHARDED[name] if sharded else {}
        work_dir = folder / f'{name}{sharded}'
        found[name, sharded] = train(images, work_dir, name, model, count, **OPTIONS)
    for name in {name for name, sharded in runs if sharded}:
        start = dict(resume=True, load_from=str(single / name / 'epoch_1.pth'))
        options = dict(OPTIONS, **start)
        work_dir = folder / f'resumed {name}'
        found[name, 'resumed'] = train(images, work_dir, name, SHARDED[name], count, **options)
    return found


@pytest.fixture(scope='module')
def single(images, tmp_path_factory):
    """Runs of one process, and the folder of their checkpoints."""
    folder = tmp_path_factory.mktemp('single')
    return folder, {name: train(images, folder / name, name, {}, 1) for name in RUNS}


@pytest.fixture(scope='module')
def two(images, single, tmp_path_factory):
    folder = tmp_path_factory.mktemp('two')
    return folder, run_ranks(scenarios, folder, images, ALL, single[0])


@pytest.fixture(scope='module')
def four(images, single, tmp_path_factory):
    return run_ranks(scenarios, tmp_path_factory.mktemp('four'), images, ALL, single[0], count=4)


def assert_alike(name: str, ranks: list[dict], expected: dict) -> None:
    losses = torch.stack([rank['losses'] for rank in ranks]).mean(dim=0)
    steps = len(losses)  # A resumed run has the last ones.
    torch.testing.assert_close(losses, expected['losses'][-steps:], **TOLERANCE)
    assert all(rank['knn'] == expected['knn'] for rank in ranks)
    state, other = ranks[0]['state'], expected['state']
    assert state.keys() == other.keys()
    for key, value in state.items():
        # Queues hold the same keys in slots of another order.
        if 'queue' not in key and not (name == 'MomentumInvP' and key.startswith('memory.')):
            value, same = (
                part.sort(dim=1).values if key.endswith('neighbours') else part
                for part in (value, other[key])
            )
            torch.testing.assert_close(value, same, **TOLERANCE, msg=lambda m, k=key: f'{k}: {m}')


@pytest.mark.parametrize('name', RUNS)
def test_two_processes_equal_one(single, two, name):
    assert single[1][name]['losses'].std() > 0
    assert_alike(name, [rank[name, False] for rank in two[1]], single[1][name])


@pytest.mark.parametrize('name', SHARDED)
def test_split_rows_equal_those_of_one_process(single, two, name):
    ranks = [rank[name, True] for rank in two[1]]
    assert_alike(name, ranks, single[1][name])
    bank = next(key for key in ranks[0]['state'] if key.endswith('.bank'))
    # The first process collects the rows for checkpoints.
    assert [len(rank['state'][bank]) for rank in ranks] == [24, 0]


@pytest.mark.parametrize(('name', 'sharded'), ALL)
def test_four_processes_equal_one(single, four, name, sharded):
    assert_alike(name, [rank[name, sharded] for rank in four], single[1][name])


@pytest.mark.parametrize('name', SHARDED)
def test_two_processes_resume_a_run_of_one(single, two, name):
    ranks = [rank[name, 'resumed'] for rank in two[1]]
    assert len(ranks[0]['losses']) == 3
    assert_alike(name, ranks, single[1][name])


def test_four_processes_resume_a_run_of_one(single, four):
    assert_alike('InvP', [rank['InvP', 'resumed'] for rank in four], single[1]['InvP'])


@pytest.mark.parametrize('name', SHARDED)
def test_one_process_resumes_a_run_of_two(images, single, two, name, tmp_path):
    source = two[0] / f'{name}True' / 'epoch_1.pth'
    start = dict(resume=True, load_from=str(source))
    found = train(images, tmp_path, name, SHARDED[name], 1, **start)
    assert len(found['losses']) == 3
    assert_alike(name, [found], single[1][name])


def test_a_part_of_the_rows_is_not_saved(monkeypatch):
    memory = toy.build_model(toy.model_config(memory=SHARD)).memory
    memory.fit(24)
    memory.require_whole_state()
    monkeypatch.setattr('mmselfsup_invp.memory.sharding.world_size', lambda: 2)
    monkeypatch.setattr('mmselfsup_invp.memory.sharding.rank', lambda: 1)
    memory.resize(24)
    with pytest.raises(RuntimeError, match='split over the processes'):
        memory.require_whole_state()
