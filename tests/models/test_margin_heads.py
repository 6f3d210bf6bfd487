"""The intra-image branches of InterCLR and their loss."""

import pytest
import torch
import torch.nn.functional as F

from mmselfsup_invp import ops
from mmselfsup_invp.models import BankMarginHead, MarginNCELoss, QueueMarginHead

from .. import toy

LOSS = dict(type='MarginNCELoss', temperature=0.2, margin=0.3)


class TestLoss:
    @pytest.mark.parametrize('kind', ['cosine', 'arc'])
    def test_is_the_operation(self, kind):
        positive, negative = torch.rand(5), torch.rand(5, 7) - 0.5
        found = MarginNCELoss(0.3, 0.2, kind)(positive, negative)
        assert torch.equal(found, ops.margin_nce(positive, negative, 0.3, 0.2, kind))

    def test_against_all_is_the_loss_with_every_row_as_negative(self):
        query = toy.rows(5, 6).requires_grad_()
        bank, positive = toy.rows(300, 6, seed=1), torch.rand(5)
        loss = MarginNCELoss(0.1, 0.35)
        found = loss.against_all(positive, query, bank)
        expected = loss(positive, query @ bank.T)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(
            torch.autograd.grad(found.sum(), query)[0],
            torch.autograd.grad(expected.sum(), query)[0],
        )

    @pytest.mark.parametrize(
        ('option', 'message'),
        [
            (dict(temperature=0), 'temperature = 0 is not valid'),
            (dict(kind='angle'), "kind = 'angle' is not valid. It must be one of 'cosine', 'arc'"),
            (dict(kind='arc', margin=4.0), 'margin = 4.0 is an angle'),
        ],
    )
    def test_wrong_options_are_named(self, option, message):
        with pytest.raises(ValueError, match=message):
            MarginNCELoss(**option)


class TestBankHead:
    def test_the_own_row_against_random_others(self):
        bank, anchor = toy.rows(30, 6, seed=2), torch.tensor([3, 29, 0])
        query = toy.rows(3, 6, seed=3)
        torch.manual_seed(4)
        found = BankMarginHead(LOSS, num_negatives=9)(query, anchor, bank)
        torch.manual_seed(4)
        negative = ops.sample_uniform_negatives(anchor, 30, 9)
        positive = (query * bank[anchor]).sum(dim=1)
        cosine = torch.einsum('bd,bkd->bk', query, bank[negative])
        torch.testing.assert_close(found, ops.margin_nce(positive, cosine, 0.2, 0.3).mean())

    def test_the_papers_settings_are_the_default(self):
        head = BankMarginHead()
        assert head.num_negatives == 16384
        assert (head.loss.temperature, head.loss.margin) == (0.1, 0)

    def test_a_bank_of_one_image_is_refused(self):
        with pytest.raises(ValueError, match='another row to tell an image from'):
            BankMarginHead()(toy.rows(1, 6), torch.tensor([0]), toy.rows(1, 6))


class TestQueueHead:
    def test_zero_margin_is_moco(self):
        query, key, queue = toy.rows(4, 6), toy.rows(4, 6, seed=1), toy.rows(50, 6, seed=2)
        head = QueueMarginHead()
        logits = torch.cat([(query * key).sum(1, keepdim=True), query @ queue.T], dim=1) / 0.2
        expected = F.cross_entropy(logits, torch.zeros(4, dtype=torch.int64))
        torch.testing.assert_close(head(query, key, queue), expected)

    def test_the_margin_counts(self):
        query, key, queue = toy.rows(4, 6), toy.rows(4, 6, seed=1), toy.rows(50, 6, seed=2)
        expected = ops.margin_nce((query * key).sum(1), query @ queue.T, 0.2, 0.3).mean()
        torch.testing.assert_close(QueueMarginHead(LOSS)(query, key, queue), expected)
