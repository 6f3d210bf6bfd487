"""The sections of logged metrics."""

from ..evaluation import Curve
from .blocks import Block, Chart, Grid, Paragraph, Table, Unavailable
from .charts import SMALL, line_chart
from .run_data import RunData

# Title and unit of metrics with a chart of their own.
TITLES = {
    'lr': ('Learning rate', 'learning rate'),
    'num_positives': ('Positives of an image, |N(i)|', 'images'),
    'short_pools': ('Images with repeated negatives', 'share of the images'),
    'label_accuracy': ('Training accuracy on self-labels', 'accuracy (%)'),
    'similarity': ('Similarity of different images', 'mean cosine (1: collapsed)'),
    'change_ratio': ('Changed labels', 'share of the labels'),
    'unfilled': ('Rows without neighbours', 'share of the rows'),
    'largest_in_degree': ('Largest in-degree', 'edges'),
    'mean_norm': ('Norm of the mean feature', 'norm (1: collapsed)'),
    'num_components': ('Connected components', 'components'),
    'largest_component': ('Largest connected component', 'share of the rows'),
    'edge_churn': ('Changed edges', 'share of the edges'),
    'empty': ('Empty clusters', 'clusters'),
    'smallest': ('Smallest cluster', 'images'),
    'largest': ('Largest cluster', 'images'),
    'entropy': ('Entropy of the cluster sizes', 'entropy / log C (1: balanced)'),
    'repaired': ('Repaired clusters', 'clusters'),
    'passes': ('Sinkhorn-Knopp iterations', 'iterations'),
    'error': ('Sinkhorn-Knopp error', 'error (no unit)'),
    'cost': ('Transport cost of the labels', 'cost (no unit)'),
}
AGREEMENT = {'nmi': 'NMI', 'adjusted_nmi': 'adjusted NMI', 'ari': 'ARI', 'accuracy': 'accuracy'}
# Metrics of the trainer that do not describe the learning.
RESOURCES = ('time', 'data_time', 'memory', 'base_lr')
SCORES = ('knn/', 'graph/purity_')


def learning(data: RunData) -> list[Block]:
    """Show the losses, the learning rate and the other metrics of the iterations."""
    curves = data.run.curves
    losses = {name: curve for name, curve in curves.items() if name.startswith('loss')}
    if not losses:
        raise Unavailable('the log has no losses')
    others = {
        name: curve
        for name, curve in curves.items()
        if '/' not in name and name not in losses and name not in RESOURCES
    }
    others |= _group(data, 'features/')
    return [line_chart(losses, 'Losses', 'loss (nats)'), Grid(_single(others))]


def knn(data: RunData) -> list[Block]:
    """Show kNN accuracy and purity."""
    accuracy, purity = _group(data, 'knn/'), _group(data, 'graph/purity_')
    if not accuracy and not purity:
        raise Unavailable(
            'the log has neither kNN accuracy nor purity; both need labels, kNN accuracy also '
            'needs KNNEvalHook'
        )
    blocks: list[Block] = []
    if accuracy:
        blocks.append(line_chart(accuracy, 'Weighted kNN accuracy', 'accuracy (%)'))
    if purity:
        purity = {name.replace('hop', 'hop '): curve for name, curve in purity.items()}
        title = 'Positives of the same class, by number of hops'
        blocks.append(line_chart(purity, title, 'purity (%)'))
    return blocks


def graph(data: RunData) -> list[Block]:
    """Show the state of the graph."""
    curves = _group(data, 'graph/')
    curves = {name: curve for name, curve in curves.items() if not name.startswith('purity_')}
    if not curves:
        raise Unavailable('the log has no metrics of a graph, which PropagationMemoryHook writes')
    return [Grid(_single(curves))]


def clusters(data: RunData) -> list[Block]:
    """Show the state of clusters or self-labels and their agreement with the classes."""
    blocks: list[Block] = []
    for prefix in ('clusters/', 'sela/'):
        curves = _group(data, prefix)
        agreement = {AGREEMENT[name]: curves.pop(name) for name in AGREEMENT if name in curves}
        if agreement:
            title = 'Agreement of the labels with the classes'
            blocks.append(line_chart(agreement, title, 'agreement (%)'))
        if curves:
            blocks.append(Grid(_single(curves)))
    if not blocks:
        raise Unavailable('the log has no metrics of clusters, which InterCLR, ODC and SeLa write')
    return blocks


def scores(data: RunData) -> list[Block]:
    """List the last and the best value of the scores that use labels."""
    curves = data.run.curves
    rows = [_score(name, curve) for name, curve in curves.items() if name.startswith(SCORES)]
    if not rows:
        return [Paragraph('The log has no score that uses labels.')]
    return [Table(['score, %', 'last', 'best', 'best at epoch'], rows)]


def _group(data: RunData, prefix: str) -> dict[str, Curve]:
    """Select the metrics whose name has a prefix, which is removed."""
    return {
        name.removeprefix(prefix): curve
        for name, curve in data.run.curves.items()
        if name.startswith(prefix)
    }


def _single(curves: dict[str, Curve]) -> list[Chart]:
    """Draw a small chart of each metric."""
    charts = []
    for name, curve in curves.items():
        title, unit = TITLES.get(name, (name, name))
        charts.append(line_chart({name: curve}, title, unit, SMALL))
    return charts


def _score(name: str, curve: Curve) -> list[str]:
    best = max(range(len(curve.value)), key=curve.value.__getitem__)
    values = (curve.value[-1], curve.value[best])
    return [name, *(f'{value:.1f}' for value in values), f'{curve.epoch[best]:g}']
