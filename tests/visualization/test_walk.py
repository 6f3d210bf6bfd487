import pytest
import torch

from mmselfsup_invp.visualization import ReportOptions, walk
from mmselfsup_invp.visualization.run_data import RunData


def test_values_are_evenly_spaced():
    assert walk.evenly_spaced([1, 2, 3], 3) == [1, 2, 3]
    assert walk.evenly_spaced(list(range(11)), 3) == [0, 5, 10]


def test_a_figure_shows_the_anchors_and_their_neighbours(trained, monkeypatch):
    data = RunData(trained[0], ReportOptions(anchors=(5, 11)))
    shown = []
    monkeypatch.setattr(walk, '_show', lambda axes, data, *rows: shown.append(rows))
    assert walk.draw_walks(data, 'png').startswith(b'\x89PNG')
    for anchor in (5, 11):
        own = [image for start, image in shown if start == anchor]
        edges = set(data.graph[0][anchor].tolist())
        assert own[0] == anchor and len(set(own)) == len(own)
        assert set(own[1 : 1 + len(edges)]) == edges
        similarity = (data.embedding[own[1:]] @ data.embedding[anchor])[: len(edges)]
        assert torch.equal(similarity, similarity.sort(descending=True).values)


@pytest.mark.parametrize('labels', [True, False])
def test_the_title_names_the_share_of_the_class(trained, labels):
    data = RunData(trained[0], ReportOptions(anchors=(0, 1)))
    walks = [[torch.tensor([3, 6])], [torch.tensor([2, 4])]]  # Classes 0 0 and 2 1, of 0 and 1.
    if labels:
        assert walk._title(data, walks, 0) == 'hop 1: 2 images, 75% of the class'
    else:
        object.__setattr__(data.gallery, 'label', None)
        assert walk._title(data, walks, 0) == 'hop 1: 2 images'
