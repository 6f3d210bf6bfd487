import base64

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmselfsup_invp.ops import knn_graph
from mmselfsup_invp.visualization import ReportOptions, image_map
from mmselfsup_invp.visualization.blocks import Unavailable
from mmselfsup_invp.visualization.images import sample
from mmselfsup_invp.visualization.run_data import RunData


def unpacked(content, name, kind):
    return np.frombuffer(base64.b64decode(content[name]), np.dtype(kind)).astype(np.int64)


def test_the_map_holds_all_images_and_the_graph(trained):
    run, _, images = trained
    data = RunData(run, ReportOptions(anchors=(3, 14)))
    content, sheet = image_map.map_data(data)
    assert content['names'] == [f'{n:03d}.png' for n in range(24)] and content['anchors'] == [3, 14]
    assert content['folder'] == str(images / 'train')
    assert content['label'] == [n % 3 for n in range(24)]
    assert content['classes'] == {0: '0', 1: '1', 2: '2'}
    found = unpacked(content, 'neighbours', '<i2').reshape(24, -1)
    assert found.tolist() == data.graph[0].tolist() and content['degree'] == 2
    position = unpacked(content, 'position', '<u2').reshape(24, 2)
    assert position.min(axis=0).tolist() == [0, 0] and (position.max(axis=0) == 65535).all()
    assert sorted(set(content['cluster'])) == [*range(content['clusters'])]
    assert sheet.startswith('data:image/webp;base64,') and content['columns'] == 5


def test_a_sample_has_a_graph_of_its_own(trained, monkeypatch):
    monkeypatch.setattr(image_map, 'MAX_IMAGES', 10)
    data = RunData(trained[0], ReportOptions(anchors=(7, 23)))
    content, _ = image_map.map_data(data)
    rows = torch.tensor(content['index'])
    assert len(rows) == 10 and [content['index'][n] for n in content['anchors']] == [7, 23]
    assert content['label'] == (rows % 3).tolist()
    found = unpacked(content, 'neighbours', '<i2').reshape(10, -1)
    assert found.tolist() == knn_graph(data.embedding[rows], 2).tolist()
    text, _ = image_map.explore(data)
    assert text.text.startswith('A sample of 10 of 24 images') and 'in this sample' in text.text


def test_the_map_has_too_few_images(trained):
    data = RunData(trained[0], ReportOptions(max_images=3))
    with pytest.raises(Unavailable, match='3 images are too few'):
        image_map.map_data(data)


@pytest.mark.parametrize('dim', [16, 128, 512])
def test_quantised_features_keep_the_similarities(dim):
    """Of features of rank 100, as trained ones: their reduction to 128 dimensions is exact."""
    torch.manual_seed(0)
    features = F.normalize(torch.randn(300, 100) @ torch.randn(100, dim))
    quantised, scale = image_map.quantise(image_map.reduce(features))
    assert quantised.dtype == torch.int8 and quantised.size(1) == min(dim, 128)
    approximate = quantised.float() * scale[:, None]
    difference = (approximate @ approximate.T - features @ features.T).abs()
    assert difference.max() < 0.015 and difference.mean() < 0.003


def test_a_sample_has_the_required_rows():
    generator = torch.Generator().manual_seed(0)
    rows = sample(50, [40, 3, 40, 99, -1], 5, generator).tolist()
    assert {3, 40} <= set(rows) and len(set(rows)) == 5 and rows == sorted(rows)
    assert sample(4, [], 10, generator).tolist() == [0, 1, 2, 3]
