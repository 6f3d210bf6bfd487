"""Sections made from what a run logged."""

from ..evaluation import Curve
from .blocks import Absent, Block, Chart, Grid, Paragraph, Table
from .charts import NARROW, line_chart
from .source import Source

# Title and unit of figures that have a chart of their own.
NAMES = {
    'lr': ('Learning rate', 'learning rate'),
    'num_positives': ('Positives of an image, |N(i)|', 'images'),
    'short_pools': ('Images whose negatives repeat', 'share of the images'),
    'label_accuracy': ('Labels that the heads predict', 'labels (%)'),
    'change_ratio': ('Labels that changed', 'share of the labels'),
    'unfilled': ('Rows without neighbours yet', 'share of the rows'),
    'largest_in_degree': ('Links into the most popular row', 'links'),
    'mean_norm': ('Length of the mean feature', 'length (1: collapsed)'),
    'num_components': ('Parts without a link between', 'parts'),
    'largest_component': ('Rows in the largest part', 'share of the rows'),
    'edge_churn': ('Links that changed', 'share of the links'),
    'empty': ('Empty clusters', 'clusters'),
    'smallest': ('Smallest cluster', 'images'),
    'largest': ('Largest cluster', 'images'),
    'entropy': ('Evenness of the sizes', 'entropy / log C (1: even)'),
    'repaired': ('Clusters that were refilled', 'clusters'),
    'passes': ('Passes of Sinkhorn-Knopp', 'passes'),
    'error': ('Error of Sinkhorn-Knopp', 'error (no unit)'),
    'cost': ('Cost of the labels', 'cost (no unit)'),
}
AGREEMENT = {'nmi': 'NMI', 'adjusted_nmi': 'adjusted NMI', 'ari': 'ARI', 'accuracy': 'accuracy'}
# Of the trainer's own figures these say nothing about learning.
HOUSEKEEPING = ('time', 'data_time', 'memory', 'base_lr')
SCORES = ('knn/', 'graph/purity_')


def group(source: Source, prefix: str) -> dict[str, Curve]:
    """Logged figures whose name begins so, by the rest of their name."""
    curves = source.run.curves
    return {
        name.removeprefix(prefix): curve
        for name, curve in curves.items()
        if name.startswith(prefix)
    }


def learning(source: Source) -> list[Block]:
    """Losses, learning rate and what else is logged with every few iterations."""
    curves = source.run.curves
    losses = {name: curve for name, curve in curves.items() if name.startswith('loss')}
    if not losses:
        raise Absent('the log holds no losses')
    others = {
        name: curve
        for name, curve in curves.items()
        if '/' not in name and name not in losses and name not in HOUSEKEEPING
    }
    return [line_chart(losses, 'Losses', 'loss (nats)'), Grid(_single(others))]


def knn(source: Source) -> list[Block]:
    """Accuracy and purity, which need labels."""
    accuracy, purity = group(source, 'knn/'), group(source, 'graph/purity_')
    if not accuracy and not purity:
        raise Absent(
            'the log holds neither kNN accuracy nor purity; both need labels, the first a '
            'KNNEvalHook too'
        )
    blocks: list[Block] = []
    if accuracy:
        blocks.append(line_chart(accuracy, 'Weighted kNN accuracy', 'accuracy (%)'))
    if purity:
        purity = {name.replace('hop', 'hop '): curve for name, curve in purity.items()}
        title = "Positives within so many hops that are of the image's class"
        blocks.append(line_chart(purity, title, 'purity (%)'))
    return blocks


def graph(source: Source) -> list[Block]:
    """State of the graph without labels."""
    curves = group(source, 'graph/')
    curves = {name: curve for name, curve in curves.items() if not name.startswith('purity_')}
    if not curves:
        raise Absent('the log holds no figures of a graph; PropagationMemoryHook writes them')
    return [Grid(_single(curves))]


def clusters(source: Source) -> list[Block]:
    """State of clusters or self-labels, and their agreement with the true classes."""
    blocks: list[Block] = []
    for prefix in ('clusters/', 'sela/'):
        curves = group(source, prefix)
        agreement = {AGREEMENT[name]: curves.pop(name) for name in AGREEMENT if name in curves}
        if agreement:
            title = 'Agreement of the labels with the true classes'
            blocks.append(line_chart(agreement, title, 'agreement (%)'))
        if curves:
            blocks.append(Grid(_single(curves)))
    if not blocks:
        raise Absent(
            'the log holds no figures of clusters; InterCLR, ODC and SeLa give labels to images'
        )
    return blocks


def _single(curves: dict[str, Curve]) -> list[Chart]:
    """A small chart for each figure."""
    charts = []
    for name, curve in curves.items():
        title, unit = NAMES.get(name, (name, name))
        charts.append(line_chart({name: curve}, title, unit, NARROW))
    return charts


def last_figures(source: Source) -> list[Block]:
    """The scores of the run, last and best."""
    curves = source.run.curves
    rows = [_last(name, curve) for name, curve in curves.items() if name.startswith(SCORES)]
    if not rows:
        return [Paragraph('The log holds no score that needs labels.')]
    return [Table(['score, %', 'last', 'best', 'best at epoch'], rows)]


def _last(name: str, curve: Curve) -> list[str]:
    best = max(range(len(curve.value)), key=curve.value.__getitem__)
    values = (curve.value[-1], curve.value[best])
    return [name, *(f'{value:.1f}' for value in values), f'{curve.epoch[best]:g}']
