import re
from types import SimpleNamespace

import pytest
import torch

from mmselfsup_invp.visualization import ReportOptions, distributions
from mmselfsup_invp.visualization.blocks import Unavailable
from mmselfsup_invp.visualization.run_data import RunData


def with_labels(labels, **memory):
    """A run with labels in its checkpoint."""
    return SimpleNamespace(
        memories=dict(memory=SimpleNamespace(**memory)), saved=lambda name, buffer: labels
    )


def test_the_text_names_the_mean_similarities(trained):
    data = RunData(trained[0], ReportOptions())
    chart, text = distributions.similarities(data)
    same, other = re.search(r'Means .thin lines.: (\S+) and (\S+)\.', text.text).groups()
    assert -1 <= float(other) <= 1 and -1 <= float(same) <= 1
    assert text.text.startswith('For 24 training images') and chart.uri


def test_sizes_count_empty_clusters_and_all_heads():
    labels = torch.tensor([[0, 1], [0, 2], [0, 3], [1, 3]])
    _, text = distributions.sizes(with_labels(labels, num_classes=4))
    # Sizes 3, 1, 0, 0 of the first head and 0, 1, 1, 2 of the second.
    assert '0 to 3 images, mean 1.0' in text.text and 'standard deviation 1.0' in text.text


@pytest.mark.parametrize('labels', [None, torch.full((4,), -1), torch.empty(0).long()])
def test_without_labels_there_are_no_sizes(labels):
    with pytest.raises(Unavailable, match='the checkpoint has no labels'):
        distributions.sizes(with_labels(labels, num_clusters=2))
