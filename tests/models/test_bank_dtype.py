"""Banks of 16 bits: stored as such, computed with in float32."""

import pytest
import torch
import torch.nn.functional as F

from mmselfsup_invp import ops
from mmselfsup_invp.models import ClusterMemory, KeyQueue, PropagationMemory, PropagationQueue

from .. import toy

# Largest relative rounding error of an entry, and so of a row's similarity to a unit query.
ROUNDING = {'float16': 2**-11, 'bfloat16': 2**-8}
DIM = 64

every_dtype = pytest.mark.parametrize('dtype', ROUNDING)


def rounded(rows, dtype):
    return rows.to(getattr(torch, dtype))


def memory_of(kind, dtype, length=40):
    """A memory whose rows are stored as ``dtype``."""
    options = dict(num_clusters=4) if kind is ClusterMemory else {}
    memory = kind(length=length, feat_dim=DIM, dtype=dtype, **options)
    assert memory.bank.dtype == getattr(torch, dtype)
    if kind is ClusterMemory:
        memory.cluster(toy.rows(length, DIM, seed=5))
    return memory


def step(memory, feature):
    """Let a batch of four images enter."""
    anchor = torch.tensor([3, 0, 39, 7])
    graph = [torch.zeros(4, 4, dtype=torch.int64)] if hasattr(memory, 'neighbours') else []
    if isinstance(memory, PropagationQueue):
        anchor = memory.insert(feature, anchor)
    memory.stage(anchor, feature, *graph)
    memory.commit()


@every_dtype
@pytest.mark.parametrize('kind', [PropagationMemory, PropagationQueue, ClusterMemory, KeyQueue])
def test_a_step_is_that_of_float32_rounded_once(kind, dtype):
    memory, exact = memory_of(kind, dtype), memory_of(kind, 'float32')
    exact.bank.copy_(memory.bank)
    before = memory.bank.clone()
    feature = toy.rows(4, DIM, seed=1)
    for each in (memory, exact):
        step(each, feature)
    assert memory.bank.dtype == getattr(torch, dtype)
    assert torch.equal(memory.bank, rounded(exact.bank, dtype))
    assert (memory.bank != before).any(dim=1).sum() == 4
    assert (exact.bank != memory.bank.float()).any(), 'rounding has an effect'


@every_dtype
def test_searches_are_as_near_as_rounded_entries_let_them_be(dtype):
    """``|q.x - q.x'| <= |x - x'|``, for both are unit rows."""
    exact = PropagationMemory(length=500, feat_dim=DIM)
    memory = PropagationMemory(length=500, feat_dim=DIM, dtype=dtype)
    query = toy.rows(8, DIM, seed=1)
    similarity, index = memory.search(query, 20)
    assert similarity.dtype == torch.float32
    error = (similarity - (query @ exact.bank.T).gather(1, index)).abs().max()
    assert 0 < error <= ROUNDING[dtype]
    nearest = exact.search(query, 20)[0].sort(descending=True)[0]
    torch.testing.assert_close(
        similarity.sort(descending=True)[0], nearest, atol=ROUNDING[dtype], rtol=0
    )


@every_dtype
@pytest.mark.parametrize('name', ['InvP', 'InterCLR'])
def test_losses_and_gradients_are_near_those_of_float32(name, dtype):
    """A similarity is wrong by the rounding at most, a logit by that over the temperature (0.2).

    With one graph and no choice of the hardest, for what is chosen may change with any rounding.
    """

    def losses_of(dtype):
        torch.manual_seed(3)
        if name == 'InvP':
            changes = dict(head=dict(loss=dict(hard_pos='all', num_background=23)))
            memory = dict(length=24, dtype=dtype)
            model = toy.build_model(toy.model_config(memory=memory, **changes))
            model.memory.neighbours.copy_(ops.knn_graph(toy.rows(24), 2))
        else:
            memory = dict(memory=dict(length=24, dtype=dtype))
            model = toy.build_model(toy.interclr_config(branch=memory))
            model.branch.memory.cluster(toy.rows(24))
        model.train()
        images = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))
        torch.manual_seed(4)
        losses = model.loss([images], toy.samples(*range(6)))
        total = sum(value for key, value in losses.items() if key.startswith('loss'))
        total.backward()
        assert {value.dtype for value in losses.values()} == {torch.float32}
        return total.detach(), model.neck.output.weight.grad

    (exact, exact_grad), (loss, grad) = losses_of('float32'), losses_of(dtype)
    limit = ROUNDING[dtype] / 0.2
    # Two terms, each a difference of a logit and a mean of logits.
    torch.testing.assert_close(loss, exact, atol=4 * limit, rtol=0)
    change = (grad - exact_grad).norm()
    assert 0 < change <= 4 * limit * exact_grad.norm()


@every_dtype
def test_clusters_stay_float32(dtype):
    memory = memory_of(ClusterMemory, dtype)
    assert memory.centroids.dtype == torch.float32
    assert torch.equal(memory.bank, rounded(F.normalize(toy.rows(40, DIM, seed=5)), dtype))
    memory.update_centroids()
    for cluster in range(4):
        mean = memory.bank[memory.labels == cluster].float().mean(dim=0)
        torch.testing.assert_close(memory.centroids[cluster], mean)
    memory.labels.zero_()
    memory.clusters.min_size = 2
    assert memory.repair() == 3
    assert memory.labels.unique().tolist() == [0, 1, 2, 3]


class TestCheckpoints:
    @pytest.mark.parametrize(
        ('saved', 'wanted'),
        [('float32', 'float16'), ('float16', 'float32'), ('float16', 'bfloat16')],
    )
    @pytest.mark.parametrize('length', [30, None])
    def test_another_dtype_is_converted(self, saved, wanted, length):
        source = PropagationMemory(length=30, feat_dim=DIM, dtype=saved)
        memory = PropagationMemory(length=length, feat_dim=DIM, dtype=wanted, seed=1)
        memory.load_state_dict(source.state_dict())
        assert torch.equal(memory.bank, rounded(source.bank, wanted))
        assert memory.bank.dtype == getattr(torch, wanted)

    def test_a_conversion_is_logged(self, monkeypatch):
        logged = []
        module = 'mmselfsup_invp.models.memories.base.print_log'
        monkeypatch.setattr(module, lambda text, **_: logged.append(text))
        source = PropagationMemory(length=30, feat_dim=DIM)
        PropagationMemory(length=30, feat_dim=DIM).load_state_dict(source.state_dict())
        assert not logged
        PropagationMemory(feat_dim=DIM, dtype='float16').load_state_dict(source.state_dict())
        assert logged == [
            'bank is torch.float32 in the checkpoint and is converted to torch.float16, the dtype '
            'of PropagationMemory in the config.'
        ]


@every_dtype
def test_a_run_trains_and_resumes(images, tmp_path, dtype):
    save = dict(checkpoint=dict(interval=1, save_last=True))

    def run(folder, epochs, **changes):
        runner = toy.build_runner(
            images,
            tmp_path / folder,
            epochs,
            model=toy.model_config(memory=dict(dtype=dtype)),
            default_hooks=save,
            custom_hooks=[
                dict(type='EpochSeedHook'),
                dict(type='PropagationMemoryHook', ramp='constant'),
                dict(type='KNNEvalHook', query_dataloader=toy.loader(images, 'test'), k=5),
            ],
            **changes,
        )
        start = runner.model.memory.bank.clone()
        runner.train()
        assert not torch.equal(runner.model.memory.bank, start)
        return runner.model.state_dict()

    straight = run('straight', 2)
    run('resumed', 1)
    resumed = run('resumed', 2, resume=True)
    assert straight['memory.bank'].dtype == getattr(torch, dtype)
    for name, value in straight.items():
        assert torch.equal(value, resumed[name]), name
