import pytest
import torch
from torch.nn import functional as F

from mmselfsup_invp.evaluation import tsne

from .. import toy


def test_groups_stay_together_and_the_seed_decides():
    centres = torch.eye(8)[:3].repeat_interleave(20, dim=0)
    features = F.normalize(centres + 0.1 * toy.rows(60, 8))
    rows, points = tsne(features, max_points=45, seed=3)
    assert len(rows) == len(rows.unique()) == 45 and points.shape == (45, 2)
    assert (rows.diff() > 0).all() and rows.max() < 60
    group = rows // 20
    apart = torch.cdist(points, points).fill_diagonal_(torch.inf)
    assert torch.equal(group[apart.argmin(dim=1)], group)
    again = tsne(features, max_points=45, seed=3)
    assert torch.equal(again[0], rows) and torch.equal(again[1], points)
    assert not torch.equal(tsne(features, max_points=45, seed=4)[0], rows)


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match='points = 3 is outside the valid range'):
        tsne(toy.rows(3, 8))
