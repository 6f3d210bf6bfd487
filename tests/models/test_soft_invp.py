import pytest
import torch

from mmselfsup_invp import ops
from mmselfsup_invp.compat.host import MODELS
from mmselfsup_invp.models import PropagationMemory, SoftInvPHead
from mmselfsup_invp.ops.soft_propagation import WalkOptions, soft_walk

from .. import toy

ANCHOR = torch.tensor([3, 0, 17, 29, 8])


def memory_of(length=30, k=3):
    memory = PropagationMemory(length=length, num_neighbours=k, feat_dim=toy.DIM)
    memory.rebuild_graph()
    return memory


def query_of(memory, seed=5):
    query = memory.bank[ANCHOR] + 0.8 * toy.rows(len(ANCHOR), seed=seed)
    return torch.nn.functional.normalize(query)


def dense_loss(memory, query, target, weight, temperature, background=None):
    """The loss from a dense distribution over the rows."""
    own = torch.nn.functional.one_hot(ANCHOR, len(memory)).float()
    mixed = weight * own + (1 - weight) * target
    logit = query @ memory.bank.T / temperature
    if background is not None:
        keep = torch.zeros_like(logit).scatter_(1, background, 1).bool()
        logit = logit.masked_fill(~keep, -torch.inf)
    chosen = logit.log_softmax(1).masked_fill(mixed == 0, 0)
    return -(mixed * chosen).sum(1).mean()


def relation_of(memory, num, temperature):
    similarity = memory.bank[ANCHOR] @ memory.bank.T
    similarity[torch.arange(len(ANCHOR)), ANCHOR] = -torch.inf
    kept = similarity.topk(num).indices
    logit = torch.full_like(similarity, -torch.inf).scatter(1, kept, similarity.gather(1, kept))
    return (logit / temperature).softmax(1)


class TestHead:
    @pytest.mark.parametrize('num_target', [1, 2])
    def test_a_target_of_fewer_rows_than_neighbours_leaves_the_graph_whole(self, num_target):
        memory = memory_of(k=3)
        expected = memory.neighbours.clone()
        head = SoftInvPHead(propagation=0, num_target=num_target, num_background=None)
        query = query_of(memory)
        loss = head(query, ANCHOR, memory)['loss_soft']
        memory.take_keys()
        memory.commit()
        assert torch.equal(memory.neighbours.sort(1)[0], expected.sort(1)[0])
        target = relation_of(memory, num_target, 0.05)
        torch.testing.assert_close(loss, dense_loss(memory, query, target, 0.5, 0.07))

    @pytest.mark.parametrize('num_background', [None, 20])
    @pytest.mark.parametrize('weight', [0.0, 0.3, 1.0])
    def test_without_the_graph_the_target_is_the_softmax_of_the_key(self, num_background, weight):
        memory = memory_of()
        query = query_of(memory)
        head = SoftInvPHead(
            propagation=0, num_target=6, num_background=num_background, instance_weight=weight
        )
        losses = head(query, ANCHOR, memory)
        background = None
        if num_background:
            background = ops.top_m(memory.bank[ANCHOR], memory.bank, 21)[1]
        target = relation_of(memory, 6, 0.05)
        expected = dense_loss(memory, query, target, weight, 0.07, background)
        torch.testing.assert_close(losses['loss_soft'], expected)
        assert losses['walked'] == 0

    @pytest.mark.parametrize('num_background', [None, 8])
    @pytest.mark.parametrize('edges', ['all', 'mutual'])
    def test_the_walk_corrects_the_target_of_the_images_it_can_leave(self, edges, num_background):
        memory = memory_of()
        query = query_of(memory)
        walk = dict(propagation=0.4, hops=2, branches=2, edges=edges, trust=0.6)
        head = SoftInvPHead(num_target=6, num_background=num_background, **walk)
        head.ramp = 0.5
        losses = head(query, ANCHOR, memory)

        options = WalkOptions(hops=2, branches=2, edges=edges, trust=0.6)
        rows, weight = soft_walk(memory.bank, memory.neighbours, ANCHOR, options)
        walk = torch.zeros(5, 30).scatter_add_(1, rows, weight)
        background = None
        if num_background:
            background = ops.top_m(memory.bank[ANCHOR], memory.bank, 9).index
            walk *= torch.zeros_like(walk).scatter(1, background, 1)
        total = walk.sum(1, keepdim=True)
        target = 0.2 * walk + (1 - 0.2 * total) * relation_of(memory, 6, 0.05)
        torch.testing.assert_close(
            losses['loss_soft'], dense_loss(memory, query, target, 0.5, 0.07, background)
        )
        torch.testing.assert_close(losses['walked'], (total > 0).float().mean())
        assert losses['walked'] > 0

    def test_the_graph_takes_the_neighbours_of_the_key(self):
        memory = memory_of()
        SoftInvPHead(num_target=6)(query_of(memory), ANCHOR, memory)
        found = memory.staged[2]
        similarity = memory.bank[ANCHOR] @ memory.bank.T
        similarity[torch.arange(5), ANCHOR] = -1
        assert found.tolist() == similarity.topk(3).indices.tolist()

    @pytest.mark.parametrize(
        ('changes', 'message'),
        [
            (dict(instance_weight=1.5), 'instance_weight = 1.5'),
            (dict(propagation=-1), 'propagation = -1'),
            (dict(edges='some'), "edges = 'some'"),
            (dict(hops=0), 'hops = 0'),
            (dict(trust=2), 'trust = 2'),
            (dict(key_temperature=0), 'key_temperature = 0'),
        ],
    )
    def test_refuses(self, changes, message):
        with pytest.raises(ValueError, match=message):
            SoftInvPHead(**changes)


def soft_config(rows='PropagationMemory', **changes):
    config = toy.model_config()
    config.update(
        type='SoftInvP', head=dict(type='SoftInvPHead', num_target=6, num_background=None)
    )
    config['memory'] = dict(type=rows, feat_dim=toy.DIM, num_neighbours=3, length=24)
    return toy.merged(config, changes)


class TestAlgorithm:
    @pytest.mark.parametrize('memory', ['PropagationMemory', 'PropagationQueue'])
    def test_the_gradient_reaches_the_student_alone(self, memory):
        torch.manual_seed(0)
        model = MODELS.build(soft_config(memory))
        model.init_weights()
        views = [torch.randn(4, 3, 16, 16) for _ in range(2)]
        model.loss(views, toy.samples(0, 5, 6, 7))['loss_soft'].backward()
        assert model.backbone.conv1.weight.grad.any()
        assert all(one.grad is None for one in model.key_encoder.parameters())

    def test_needs_two_views(self):
        model = MODELS.build(soft_config())
        with pytest.raises(ValueError, match='two views'):
            model.loss([torch.randn(4, 3, 16, 16)], toy.samples(0, 1, 2, 3))


def test_run_without_the_graph_equals_one_before_its_propagation_starts(tmp_path):
    """Of twins that share their first epochs the harness trains these once."""
    images = toy.image_folder(tmp_path / 'images')
    weights = {}
    for name, options in dict(off=dict(propagation=0.0), later=dict(propagation=0.5)).items():
        runner = toy.build_runner(
            images,
            tmp_path / name,
            model=soft_config(head=options),
            train_dataloader=toy.loader(images, views=toy.VIEWS, num_views=2),
            custom_hooks=[
                dict(type='EpochSeedHook'),
                dict(type='PropagationMemoryHook', ramp='binary', ramp_epochs=1),
            ],
        )
        states = weights[name] = []
        runner.register_hook(Snapshot(states))
        runner.train()
    torch.testing.assert_close(weights['off'][0], weights['later'][0], rtol=0, atol=0)
    assert not torch.equal(weights['off'][1]['memory.bank'], weights['later'][1]['memory.bank'])


class Snapshot(toy.Hook):
    """Keeps the state of the model after each epoch."""

    def __init__(self, states):
        self.states = states

    def after_train_epoch(self, runner):
        state = runner.model.state_dict()
        self.states.append({name: value.clone() for name, value in state.items()})
