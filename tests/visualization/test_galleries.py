import re
from types import SimpleNamespace

import pytest
import torch

from mmselfsup_invp.evaluation import Retrieval
from mmselfsup_invp.ops import propagate
from mmselfsup_invp.visualization import ReportOptions, galleries
from mmselfsup_invp.visualization.blocks import Gallery
from mmselfsup_invp.visualization.pictures import thumbnail
from mmselfsup_invp.visualization.run_data import RunData


@pytest.fixture
def data(trained):
    return RunData(trained[0], ReportOptions(anchors=(5, 11)))


def gallery(blocks):
    (found,) = (block for block in blocks if isinstance(block, Gallery))
    return found.groups


def rows_of(strip):
    """Indices of the images in a strip, which their alternative text names with the file."""
    for picture in strip.pictures:
        index, name = re.match(r'image (\d+), (\S+\.png)', picture.alt).groups()
        assert picture.name == name == f'{int(index):03d}.png'
    return [int(re.match(r'image (\d+)', picture.alt)[1]) for picture in strip.pictures]


def test_easy_positives_are_more_similar_than_hard_ones(data):
    for anchor, (first, easy, hard) in zip(
        (5, 11), gallery(galleries.positives(data)), strict=True
    ):
        assert first.label == f'anchor {anchor}' and first.note.startswith(f'class {anchor % 3}, ')
        assert first.pictures[0].uri == thumbnail(data.gallery.path(anchor))
        index, mask = propagate(data.graph[0], torch.tensor([anchor]), hops=2)
        reached = set(index[mask].tolist())
        shown = rows_of(easy) + rows_of(hard)
        assert len(set(shown)) == len(shown) and set(shown) <= reached
        # Of an odd number, the one in the middle is not shown.
        assert len(shown) == len(reached) // 2 * 2 > 0
        similarity = (data.embedding[shown] @ data.embedding[anchor]).tolist()
        assert similarity == sorted(similarity, reverse=True)
        captions = [picture.caption for picture in easy.pictures + hard.pictures]
        for number, caption, value in zip(shown, captions, similarity, strict=True):
            mark = '✓' if number % 3 == anchor % 3 else f'✗ {number % 3}'
            assert caption == f'{value:.2f} {mark}'


def test_hops_together_are_the_positives(data):
    for anchor, (_, *strips) in zip((5, 11), gallery(galleries.hops(data)), strict=True):
        index, mask = propagate(data.graph[0], torch.tensor([anchor]), hops=2)
        assert [strip.label for strip in strips] == ['hop 1', 'hop 2']
        assert set(rows_of(strips[0])) == set(data.graph[0][anchor].tolist())
        assert sorted(rows_of(strips[0]) + rows_of(strips[1])) == index[mask].tolist()


def test_errors_of_the_retrieval_are_marked(data):
    blocks = galleries.retrieval(data)
    groups = gallery(blocks)
    assert len(groups) >= galleries.NUM_RANDOM
    for query, nearest in groups:
        row = int(query.label.removeprefix('query '))
        similarity = data.backbone @ data.query_backbone[row]
        assert rows_of(nearest)[0] == similarity.argmax()
        marks = [picture.mark for picture in nearest.pictures]
        assert marks == ['same' if n % 3 == row % 3 else 'other' for n in rows_of(nearest)]
        assert query.note == f'class {row % 3}, {marks.count("same")} of 10 right'


def test_the_worst_queries_are_shown_once():
    failed = torch.zeros(12, 5, dtype=torch.bool)
    failed[3, :4], failed[8, :2], failed[10, 0] = True, True, True
    found = Retrieval(torch.zeros(12, 5).long(), torch.zeros(12, 5), failed)
    for seed in range(10):
        rows = galleries.select_queries(found, SimpleNamespace(options=ReportOptions(seed=seed)))
        worst = [row for row in (3, 8, 10) if row not in rows[: galleries.NUM_RANDOM]]
        assert len(set(rows)) == len(rows) and rows[galleries.NUM_RANDOM :] == worst


def test_values_are_evenly_spaced():
    assert galleries.evenly_spaced([1, 2, 3], 3) == [1, 2, 3]
    assert galleries.evenly_spaced(list(range(11)), 3) == [0, 5, 10]
