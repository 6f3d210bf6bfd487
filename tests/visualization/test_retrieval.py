import re
from types import SimpleNamespace

import pytest
import torch

from mmselfsup_invp.evaluation import Retrieval
from mmselfsup_invp.visualization import ReportOptions, retrieval
from mmselfsup_invp.visualization.blocks import Gallery
from mmselfsup_invp.visualization.run_data import RunData


@pytest.fixture
def data(trained):
    return RunData(trained[0], ReportOptions())


def gallery(blocks):
    (found,) = (block for block in blocks if isinstance(block, Gallery))
    return found.groups


def rows_of(strip):
    """Indices of the images in a strip, which their alternative text names with the file."""
    for picture in strip.pictures:
        index, name = re.match(r'image (\d+), (\S+\.png)', picture.alt).groups()
        assert picture.name == name == f'{int(index):03d}.png'
    return [int(re.match(r'image (\d+)', picture.alt)[1]) for picture in strip.pictures]


def test_errors_of_the_retrieval_are_marked(data):
    blocks = retrieval.retrieval(data)
    groups = gallery(blocks)
    assert len(groups) >= retrieval.NUM_RANDOM
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
        rows = retrieval.select_queries(found, SimpleNamespace(options=ReportOptions(seed=seed)))
        worst = [row for row in (3, 8, 10) if row not in rows[: retrieval.NUM_RANDOM]]
        assert len(set(rows)) == len(rows) and rows[retrieval.NUM_RANDOM :] == worst
