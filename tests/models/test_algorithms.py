import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS as ROOT
from mmengine.registry import DefaultScope, Registry

from mmselfsup_invp import ops
from mmselfsup_invp.compat import host_name
from mmselfsup_invp.compat.host import MODELS, DataSample, SelfSupDataPreprocessor
from mmselfsup_invp.models import (
    HardSamplingLoss,
    InvP,
    MomentumInvP,
    PropagationMemory,
    PropagationQueue,
)

from .. import toy

NAMES = ('InvP', 'MomentumInvP')


def model_of(name='InvP', length=20, **changes):
    torch.manual_seed(0)
    model = MODELS.build(toy.model_config(name, **changes))
    model.init_weights()
    if not len(model.memory):
        model.memory.fit(length)
    return model


def images(count=6, seed=0):
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def views(num, count=6):
    return [images(count, seed) for seed in range(num)]


def scoped(name='InvP'):
    """The config with a scope before every name, for other projects."""
    config = toy.model_config(name)
    config['type'] = f'mmselfsup.{name}'
    for part in ('neck', 'head', 'memory'):
        config[part]['type'] = f'mmselfsup.{config[part]["type"]}'
    del config['head']['loss']  # The default one must be found too.
    return config


class TestBuild:
    @pytest.mark.parametrize(
        ('name', 'algorithm', 'memory'),
        [('InvP', InvP, PropagationMemory), ('MomentumInvP', MomentumInvP, PropagationQueue)],
    )
    def test_from_config(self, name, algorithm, memory):
        model = model_of(name, memory=dict(length=20) if name == 'MomentumInvP' else {})
        assert type(model) is algorithm
        assert type(model.memory) is memory
        assert type(model.data_preprocessor) is SelfSupDataPreprocessor

    @pytest.mark.parametrize('name', NAMES)
    @pytest.mark.parametrize('scope', [None, 'elsewhere'])
    def test_from_another_project(self, name, scope):
        """From the root registry, and while the scope is that of another project, say MMDet."""
        registry = ROOT
        if scope:
            registry = Registry('model', parent=ROOT, scope=scope)
            DefaultScope.get_instance(f'test-{name}', scope_name=scope)
        try:
            model = registry.build(scoped(name))
        finally:
            ROOT._children.pop(scope, None)
        assert type(model).__name__ == name
        assert type(model.head.loss) is HardSamplingLoss

    def test_a_pretrained_network(self, tmp_path):
        source = model_of()
        torch.save(source.state_dict(), tmp_path / 'model.pth')
        changed = model_of(pretrained=str(tmp_path / 'model.pth'), memory=dict(seed=5))
        for name, value in source.state_dict().items():
            assert torch.equal(changed.state_dict()[name], value), name

    @pytest.mark.parametrize('momentum', [0, 1, 1.5])
    def test_a_wrong_encoder_momentum_is_named(self, momentum):
        with pytest.raises(
            ValueError, match=f'encoder_momentum = {momentum} (is not valid|must be between)'
        ):
            model_of('MomentumInvP', encoder_momentum=momentum, memory=dict(length=20))


class TestFeatures:
    def test_embeddings_are_unit_and_float32(self):
        model = model_of()
        query = model.embed(images())
        assert query.shape == (6, toy.DIM) and query.dtype == torch.float32
        torch.testing.assert_close(query.norm(dim=1), torch.ones(6))
        direct = model.neck(model.backbone(images()))[0]
        torch.testing.assert_close(query, direct / direct.square().sum(1, keepdim=True).sqrt())

    def test_extract_feat_gives_the_maps_of_the_first_view(self):
        model = model_of().eval()
        inputs = views(2)
        (found,) = model.extract_feat(inputs)
        assert found.shape == (6, 16, 8, 8)
        assert torch.equal(found, model.backbone(inputs[0])[0])
        # The way MMSelfSup's tools call it.
        assert torch.equal(model(inputs, mode='tensor')[0], found)

    def test_sample_ids_come_in_the_order_of_the_batch(self):
        from mmselfsup_invp.models.algorithms import sample_ids

        found = sample_ids(toy.samples(7, 3, 11))
        assert found.tolist() == [7, 3, 11] and found.dtype == torch.int64


class TestInvP:
    def test_losses_are_those_of_the_head_on_the_embedding(self):
        model = model_of(head=dict(lambda_inv=0.6))
        model.memory.rebuild_graph()
        other = copy.deepcopy(model)
        losses = model(views(1), toy.samples(4, 9, 2, 0, 19, 7), mode='loss')
        anchor = torch.tensor([4, 9, 2, 0, 19, 7])
        expected = other.head(other.embed(images()), anchor, other.memory)
        assert set(losses) == {'loss_ins', 'loss_inv', 'num_positives'}
        for name, value in losses.items():
            torch.testing.assert_close(value, expected[name])
        assert torch.equal(model.memory.staged[0], anchor)

    def test_a_training_step_trains_backbone_and_neck_alone(self):
        model = model_of()
        model.memory.rebuild_graph()
        before = {name: value.clone() for name, value in model.named_parameters()}
        bank = model.memory.bank.clone()
        wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
        data = dict(inputs=[images() * 64 + 128], data_samples=toy.samples(*range(6)))
        logged = model.train_step(data, wrapper)
        changed = {
            name.partition('.')[0]
            for name, value in before.items()
            if not torch.equal(value, dict(model.named_parameters())[name])
        }
        assert changed == {'backbone', 'neck'} == {name.partition('.')[0] for name in before}
        assert torch.equal(model.memory.bank, bank)
        torch.testing.assert_close(logged['loss'], logged['loss_ins'] + logged['loss_inv'])

    @pytest.mark.parametrize('name', NAMES)
    def test_missing_ids_are_named(self, name):
        model = model_of(name, memory=dict(length=20))
        with pytest.raises(ValueError, match=r"no sample_idx.*algorithm_keys=\['sample_idx'\]"):
            model.loss(views(2), [DataSample() for _ in range(6)])

    def test_without_the_hook_and_a_length_it_says_so(self):
        model = toy.build_model(toy.model_config(memory=dict(length=None)))
        with pytest.raises(RuntimeError, match='has no rows yet. Add the hook that sizes it'):
            model.loss([torch.rand(4, 3, 16, 16)], toy.samples(0, 1, 2, 3))

    def test_without_the_hook_the_second_step_says_so(self):
        model = model_of()
        model.loss(views(1), toy.samples(*range(6)))
        with pytest.raises(RuntimeError, match=r"default_hooks.*'PropagationMemoryHook'"):
            model.loss(views(1), toy.samples(*range(6)))


def test_the_default_momentum_of_the_encoder_is_mocos():
    model = model_of('MomentumInvP', memory=dict(length=20))
    assert model.key_encoder.momentum == 0.999
    model = toy.build_model(toy.interclr_config('MomentumInterCLR'))
    assert model.key_encoder.momentum == 0.999


class TestMomentumInvP:
    @pytest.fixture
    def model(self):
        return model_of('MomentumInvP', encoder_momentum=0.9, memory=dict(length=20))

    def encoders(self, model):
        key = dict(model.key_encoder.module.named_parameters())
        query = dict(model.encoder().named_parameters())
        assert key.keys() == query.keys() and len(key) > 10
        return key, query

    def test_one_view_is_too_few(self, model):
        with pytest.raises(ValueError, match='two views.*num_views=2'):
            model.loss(views(1), toy.samples(*range(6)))

    def test_the_key_encoder_is_an_average_of_the_encoder(self, model):
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():  # The first step takes the weights as they are then.
            for weight in model.backbone.parameters():
                weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
        model.loss(views(2), toy.samples(*range(6)))
        key, query = self.encoders(model)
        for name in key:
            assert torch.equal(key[name], query[name]), name
        average = {name: value.double() for name, value in key.items()}
        for _ in range(3):
            with torch.no_grad():
                for weight in query.values():
                    weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
            model.loss(views(2), toy.samples(*range(6)))
            key, query = self.encoders(model)
            for name in key:
                average[name] = 0.9 * average[name] + 0.1 * query[name].double()
                torch.testing.assert_close(key[name].double(), average[name])

    def test_the_key_encoder_gets_no_gradient(self, model):
        losses = model.loss(views(2), toy.samples(*range(6)))
        (losses['loss_ins'] + losses['loss_inv']).backward()
        key, query = self.encoders(model)
        assert not any(weight.requires_grad or weight.grad is not None for weight in key.values())
        assert all(weight.grad is not None for weight in query.values())

    def test_a_step_on_the_queue(self, model):
        """The second views' keys are queued first; each image's own key is its anchor."""
        model.memory.insert(toy.rows(3, seed=8), torch.arange(3))
        reference = copy.deepcopy(model)
        inputs = views(2)
        losses = model.loss(inputs, toy.samples(*range(6)))

        slots = torch.arange(3, 9)
        query = reference.embed(inputs[0])
        encoder = copy.deepcopy(reference.encoder())
        key = F.normalize(encoder(inputs[1])[0])
        bank = reference.memory.bank.clone()
        bank[slots] = key
        torch.testing.assert_close(model.memory.bank, bank)
        others = ops.top_m(query, bank, 10, exclude=slots)
        expected = ops.instance_loss(query, bank, slots, others, ops.HardSampling(0.2)).mean()
        torch.testing.assert_close(losses['loss_ins'], expected)
        # Their neighbours were found in the same search, among the new keys too.
        nearest = others_of(query, bank, slots)
        assert torch.equal(model.memory.neighbours[slots].sort(1)[0], nearest.sort(1)[0])
        assert losses['num_positives'] >= 2

    def test_a_step_on_the_bank_averages_keys(self):
        """Rows are averages of keys; the queries change the graph alone."""
        memory = dict(type='PropagationMemory', feat_dim=toy.DIM, num_neighbours=2)
        model = model_of('MomentumInvP', memory=memory)
        reference = copy.deepcopy(model)
        inputs, ids = views(2), torch.tensor([5, 1, 19, 0, 7, 8])
        losses = model.loss(inputs, toy.samples(*ids.tolist()))
        model.memory.commit()

        query = reference.embed(inputs[0])
        key = F.normalize(copy.deepcopy(reference.encoder())(inputs[1])[0])
        bank = reference.memory.bank.clone()
        bank[ids] = F.normalize(0.5 * bank[ids] + 0.5 * key)
        torch.testing.assert_close(model.memory.bank, bank)
        nearest = others_of(query, bank, ids)
        assert torch.equal(model.memory.neighbours[ids].sort(1)[0], nearest.sort(1)[0])
        others = ops.top_m(query, bank, 10, exclude=ids)
        expected = ops.instance_loss(query, bank, ids, others, ops.HardSampling(0.2)).mean()
        torch.testing.assert_close(losses['loss_ins'], expected)


@pytest.mark.parametrize('name', NAMES)
def test_a_loss_in_evaluation_mode_changes_nothing(name):
    memory = dict(type='PropagationMemory', feat_dim=toy.DIM, num_neighbours=2, length=20)
    model = model_of(name, memory=memory).eval()
    before = copy.deepcopy(model.state_dict())
    for _ in range(2):
        model.loss(views(2), toy.samples(*range(6)))
        model.memory.commit()
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def others_of(query, bank, anchor, num=2):
    return ops.top_m(query, bank, num, exclude=anchor)[1]


@pytest.mark.parametrize('name', NAMES)
def test_losses_and_rows_are_float32_under_autocast(name):
    model = model_of(name, memory=dict(length=20))
    model.memory.rebuild_graph()
    with torch.autocast('cpu', torch.bfloat16):
        assert model.backbone(images())[0].dtype == torch.bfloat16
        assert model.neck(model.backbone(images()))[0].dtype == torch.float32
        losses = model.loss(views(2), toy.samples(*range(6)))
    assert {value.dtype for value in losses.values()} == {torch.float32}
    (losses['loss_ins'] + losses['loss_inv']).backward()
    model.memory.commit()
    assert model.memory.bank.dtype == torch.float32
    assert all(weight.grad.isfinite().all() for weight in model.backbone.parameters())


POOLED = dict(mmselfsup=dict(with_avg_pool=True), mmpretrain=dict(gap_dim=2, norm_cfg=None))


def test_the_output_of_a_neck_of_the_host_is_upcast_to_float32():
    """Under autocast it is bfloat16, unlike that of our neck."""
    neck = dict(type='LinearNeck', in_channels=16, out_channels=toy.DIM, **POOLED[host_name()])
    model = model_of(neck=neck)
    with torch.autocast('cpu', torch.bfloat16):
        assert model.neck(model.backbone(images()))[0].dtype == torch.bfloat16
        query = model.embed(images())
    assert query.dtype == torch.float32
    torch.testing.assert_close(query.norm(dim=1), torch.ones(6))  # To more than 8 bits.
