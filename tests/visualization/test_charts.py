import base64
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from mmselfsup_invp.evaluation import Curve
from mmselfsup_invp.visualization import charts


def content(chart):
    kind, _, data = chart.uri.partition(';base64,')
    return kind, base64.b64decode(data, validate=True)


def words(chart):
    """The texts of a chart."""
    kind, data = content(chart)
    assert kind == 'data:image/svg+xml'
    return [element.text for element in ElementTree.fromstring(data).findall('.//{*}text')]


def test_a_line_chart_names_title_axes_and_curves():
    curves = {'loss_ins': Curve([1.0, 2.0], [3.0, 2.0]), 'loss_inv': Curve([1.0, 2.0], [0.0, 1.0])}
    chart = charts.line_chart(curves, 'Losses', 'loss (nats)')
    assert {'Losses', 'epoch', 'loss (nats)', 'loss_ins', 'loss_inv'} <= set(words(chart))
    assert chart.alt == 'Losses, over the epochs: loss_ins ends at 2, loss_inv ends at 1.'
    assert chart == charts.line_chart(curves, 'Losses', 'loss (nats)')  # Reproducible to the byte.


def test_a_single_curve_has_no_legend():
    chart = charts.line_chart({'lr': Curve([1.0], [0.1])}, 'Learning rate', 'rate')
    assert 'lr' not in words(chart)


def test_a_long_curve_is_averaged():
    curve = Curve([n / 2 for n in range(1, 1002)], [float(n % 5) for n in range(1, 1002)])
    epoch, value = charts.average_points(curve, 250)
    assert len(epoch) == len(value) == 201  # Groups of 5, the last with the one left over.
    np.testing.assert_allclose(value, [2.0] * 200 + [1.0])
    np.testing.assert_allclose(epoch[:2], [1.5, 4.0])
    assert epoch[-1] == curve.epoch[-1]
    short = charts.average_points(Curve([1.0, 2.0], [5.0, 6.0]))
    assert short[1].tolist() == [5, 6]


@pytest.mark.parametrize('values', [[3], [7, 7, 7], [0, 1, 5], list(range(200))])
def test_every_whole_number_is_inside_a_bin(values):
    edges = charts.bin_edges(torch.tensor(values), integer=True)
    assert np.histogram(values, edges)[0].sum() == len(values)
    widths = np.diff(edges)
    assert (widths == widths[0]).all() and widths[0] == int(widths[0])
    assert len(widths) <= charts.BINS


@pytest.mark.parametrize('values', [[0.5, 0.5], [-0.2, 0.9]])
def test_every_number_is_inside_a_bin(values):
    edges = charts.bin_edges(torch.tensor(values))
    assert len(edges) == charts.BINS + 1
    assert np.histogram(torch.tensor(values).numpy(), edges)[0].sum() == 2


def test_a_histogram_names_its_groups_and_means():
    groups = {'same class': torch.tensor([0.5, 0.7]), 'other classes': torch.tensor([0.1, 0.1])}
    bins = charts.bin_edges(torch.cat([*groups.values()]))
    chart = charts.histogram(groups, 'Similarity', 'cosine', 'share (%)', bins, percent=True)
    assert {'same class', 'other classes', 'cosine', 'share (%)'} <= set(words(chart))
    assert chart.alt == 'Similarity: same class mean 0.6, other classes mean 0.1.'
