import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS as ROOT

from mmselfsup_invp import ops
from mmselfsup_invp.compat.host import MODELS
from mmselfsup_invp.models import InterCLR, MomentumInterCLR

from .. import toy

NAMES = ('InterCLR', 'MomentumInterCLR')
IDS = torch.tensor([4, 9, 2, 0, 19, 7])


def model_of(name='InterCLR', **changes):
    torch.manual_seed(0)
    model = toy.build_model(toy.interclr_config(name, **changes))
    cluster(model)
    return model


def cluster(model):
    model.branch.memory.fit(20)
    model.branch.memory.cluster(toy.rows(20, seed=1))


def views(num, count=6):
    return [
        torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
        for seed in range(num)
    ]


def step(model, views_given):
    torch.manual_seed(5)
    return model(views_given, toy.samples(*IDS.tolist()), mode='loss')


class TestBuild:
    @pytest.mark.parametrize(
        ('name', 'algorithm'), [('InterCLR', InterCLR), ('MomentumInterCLR', MomentumInterCLR)]
    )
    def test_from_config_and_from_another_project(self, name, algorithm):
        assert type(model_of(name)) is algorithm
        config = toy.interclr_config(name)
        parts = [config, config['neck'], config['head'], config['branch']]
        parts += [config['branch']['memory'], *([config['queue']] if 'queue' in config else [])]
        for part in parts:
            part['type'] = f'mmselfsup.{part["type"]}'
        del config['branch']['loss'], config['head']['loss']  # Found without a name, too.
        assert type(ROOT.build(config)) is algorithm

    @pytest.mark.parametrize('weight', [-0.1, 1.1])
    def test_a_wrong_weight_is_named(self, weight):
        with pytest.raises(
            ValueError,
            match=f'intra_weight = {weight} is not valid. It must be a finite number from 0 to 1',
        ):
            model_of(intra_weight=weight)

    def test_a_negative_weight_of_a_branch_of_invp_is_named(self):
        with pytest.raises(
            ValueError, match='branch_weight = -1 is not valid. It must be a finite number from 0'
        ):
            toy.build_model(toy.model_config(branch=toy.branch_config(), branch_weight=-1))


class TestBank:
    def test_both_branches_read_one_bank(self):
        model = model_of(intra_weight=0.75)
        reference = copy.deepcopy(model)
        losses = step(model, views(1))
        assert set(losses) == {'loss_intra', 'loss_inter', 'short_pools'}

        torch.manual_seed(5)
        query = reference.embed(views(1)[0])
        inter = reference.branch(query, IDS)['loss_inter']
        intra = reference.head(query, IDS, reference.branch.memory.bank)
        torch.testing.assert_close(losses['loss_intra'], 0.75 * intra)
        torch.testing.assert_close(losses['loss_inter'], 0.25 * inter)
        assert torch.equal(model.memory.staged[0], IDS)

    def test_the_total_is_the_papers(self):
        """Golden value B-G3."""
        intra = ops.margin_nce(torch.tensor([0.6]), torch.tensor([[0.5, 0.1, -0.3]]), 0.2)
        inter = ops.margin_nce(torch.tensor([0.6]), torch.tensor([[0.5, 0.1, -0.3]]), 0.2, -0.5)
        model = model_of(intra_weight=0.75)
        model.head.forward = lambda *_: intra.mean()
        model.branch._contrast = lambda *_: (inter.mean(), torch.tensor(0.0))
        losses = step(model, views(1))
        total = losses['loss_intra'] + losses['loss_inter']
        torch.testing.assert_close(total.item(), 0.411812, atol=1e-6, rtol=0)

    def test_lambda_1_is_the_intra_branch_alone(self, monkeypatch):
        model = model_of(intra_weight=1.0)
        reference = copy.deepcopy(model)
        monkeypatch.setattr(ops, 'sample_negatives', None)  # Nothing is searched.
        losses = step(model, views(1))
        torch.manual_seed(5)
        query = reference.embed(views(1)[0])
        intra = reference.head(query, IDS, reference.memory.bank)
        assert torch.equal(losses['loss_intra'], intra) and losses['loss_inter'] == 0

    def test_lambda_0_is_the_inter_branch_alone(self):
        losses = step(model_of(intra_weight=0.0), views(1))
        assert losses['loss_intra'] == 0 and losses['loss_inter'] > 0

    def test_the_warm_up_has_all_of_the_intra_branch(self):
        model = model_of(intra_weight=0.25)
        alone = step(model_of(intra_weight=1.0), views(1))
        model.branch.ramp = 0.0
        losses = step(model, views(1))
        assert torch.equal(losses['loss_intra'], alone['loss_intra'])
        assert losses['loss_inter'] == 0


class TestMomentum:
    def test_query_against_key_and_queue(self):
        model = model_of('MomentumInterCLR')
        reference = copy.deepcopy(model)
        inputs = views(2)
        losses = step(model, inputs)

        query = reference.embed(inputs[0])
        encoder = copy.deepcopy(reference.encoder())
        key = F.normalize(encoder(inputs[1])[0])
        intra = reference.head(query, key, reference.queue.bank)
        torch.testing.assert_close(losses['loss_intra'], 0.75 * intra)
        torch.manual_seed(5)
        inter = reference.branch(query, IDS, key=key)['loss_inter']
        torch.testing.assert_close(losses['loss_inter'], 0.25 * inter)
        for memory in (model.branch.memory, model.queue):
            assert torch.equal(memory.staged[0], IDS)
            torch.testing.assert_close(memory.staged[1], key)

    def test_one_view_is_too_few(self):
        with pytest.raises(ValueError, match='two views.*num_views=2'):
            step(model_of('MomentumInterCLR'), views(1))

    def test_the_key_encoder_gets_no_gradient(self):
        model = model_of('MomentumInterCLR')
        losses = step(model, views(2))
        (losses['loss_intra'] + losses['loss_inter']).backward()
        assert all(weight.grad is None for weight in model.key_encoder.parameters())
        assert all(weight.grad is not None for weight in model.encoder().parameters())


class TestOtherAlgorithms:
    @pytest.mark.parametrize('name', ['InvP', 'MomentumInvP'])
    def test_invp_carries_the_branch(self, name):
        torch.manual_seed(0)
        changes = dict(branch=toy.branch_config(), branch_weight=0.5)
        if name == 'MomentumInvP':
            changes['memory'] = dict(length=20)
        model = toy.build_model(toy.model_config(name, **changes))
        if name == 'InvP':
            model.memory.fit(20)
        cluster(model)
        reference = copy.deepcopy(model)
        losses = step(model, views(2))
        assert {'loss_ins', 'loss_inv', 'loss_inter'} <= set(losses)
        sample_idx, feature = model.branch.memory.staged
        assert torch.equal(sample_idx, IDS)
        query = reference.embed(views(2)[0])
        if name == 'InvP':
            torch.testing.assert_close(feature, query)
        else:
            encoder = copy.deepcopy(reference.encoder())
            torch.testing.assert_close(feature, F.normalize(encoder(views(2)[1])[0]))
        torch.manual_seed(5)
        inter = reference.branch(query, IDS)['loss_inter']
        torch.testing.assert_close(losses['loss_inter'], 0.5 * inter)

    def test_the_default_weights(self):
        model = toy.build_model(toy.model_config(branch=toy.branch_config()))
        assert model.branch_weight == 0.25
        assert toy.build_model(toy.interclr_config()).intra_weight == 0.75

    def test_a_branch_may_weigh_nothing(self):
        changes = dict(branch=toy.branch_config(), branch_weight=0)
        assert toy.build_model(toy.model_config(**changes)).branch_weight == 0

    def test_without_a_branch_invp_has_none(self):
        model = MODELS.build(toy.model_config())
        assert model.branch is None and not any('branch' in name for name in model.state_dict())
