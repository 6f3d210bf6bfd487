"""The table and the curves of the trials."""

import statistics
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

# Column of the table: what it is in a result.
FIGURES = {
    'kNN backbone': 'backbone',
    'kNN bank': 'bank',
    'linear probe': 'probe',
    '1 label': 'labels_1',
    '5 labels': 'labels_5',
    'NMI': 'nmi',
    'purity, 1 hop': 'purity_hop1',
    '2 hops': 'purity_hop2',
    '3 hops': 'purity_hop3',
}
CURVE = 'knn/backbone_k50_t0.07'


def group(results: Iterable[dict]) -> dict[tuple[str, int], list[dict]]:
    """Results by name and budget; of a cell that was run twice the last result counts."""
    latest = {result['key']: result for result in results}
    rows: dict[tuple[str, int], list[dict]] = defaultdict(list)
    for result in latest.values():
        rows[result['name'], result['budget']].append(result)
    return dict(rows)


def mean_and_error(values: list[float], digits: int = 1) -> str:
    """Mean and standard error of the mean, which one value does not have; empty without values.

    Example:
        >>> mean_and_error([1.0, 2.0, 3.0]), mean_and_error([1.0])
        ('2.0 ± 0.6', '1.0')
    """
    if not values:
        return ''
    mean = f'{statistics.mean(values):.{digits}f}'
    if len(values) < 2:
        return mean
    return f'{mean} ± {statistics.stdev(values) / len(values) ** 0.5:.{digits}f}'


def markdown(rows: Iterable[list[str]]) -> str:
    """A table in Markdown; the first row is its head."""
    head, *body = (f'| {" | ".join(row)} |' for row in rows)
    rule = '|' + '---|' * (head.count('|') - 1)
    return '\n'.join([head, rule, *body]) + '\n'


def table(results: Iterable[dict]) -> str:
    """A table in Markdown, the best kNN accuracy of the backbone first within each budget.

    Percent; mean over the seeds and standard error of the mean. Network passes are those for each
    training image, forward 1 and backward 2; seconds are CPU time of training on one core.
    """
    rows = [['trial', 'seeds', 'passes', 'CPU s', *FIGURES]]

    def order(item: tuple[tuple[str, int], list[dict]]) -> tuple[int, float]:
        (_, budget), cells = item
        return -budget, -statistics.mean(cell['figures']['backbone'] for cell in cells)

    for (name, _), cells in sorted(group(results).items(), key=order):
        figures = [
            [cell['figures'][key] for cell in cells if key in cell['figures']]
            for key in FIGURES.values()
        ]
        passes = statistics.mean(cell['network_passes'] for cell in cells)
        seconds = statistics.mean(cell['cpu_seconds'] for cell in cells)
        cost = [f'{passes:.0f}', f'{seconds:.0f}']
        rows.append([name, str(len(cells)), *cost, *map(mean_and_error, figures)])
    return markdown(rows)


def differences(results: Iterable[dict], pairs: Iterable[tuple[str, str]]) -> str:
    """A table in Markdown of differences between rows, seed by seed.

    Percentage points; mean over the seeds that both rows have at the same budget, and standard
    error of the mean. A pair without a common seed is left out.

    Args:
        results (Iterable[dict]): Lines of the results file.
        pairs (Iterable[tuple[str, str]]): Names of two rows; the second is subtracted.
    """
    runs: dict[str, dict[tuple[int, int], dict]] = defaultdict(dict)
    for (name, budget), cells in group(results).items():
        runs[name] |= {(budget, cell['seed']): cell['figures'] for cell in cells}
    rows = [['difference', 'pairs', *FIGURES]]
    for name, other in pairs:
        shared = sorted(runs[name].keys() & runs[other].keys())
        if not shared:
            continue
        twins = [(runs[name][run], runs[other][run]) for run in shared]
        figures = [
            [one[key] - two[key] for one, two in twins if key in one and key in two]
            for key in FIGURES.values()
        ]
        entries = [mean_and_error(values, digits=2) for values in figures]
        rows.append([f'{name} - {other}', str(len(twins)), *entries])
    return markdown(rows)


def draw_curves(results: Iterable[dict], names: list[str] | None, budget: int, path: Path) -> None:
    """Draw the kNN accuracy of the backbone over the network passes, mean over the seeds.

    Args:
        results (Iterable[dict]): Lines of the results file.
        names (list[str], optional): Rows to draw, in this order; None for all.
        budget (int): Budget of the rows.
        path (Path): Picture to write.
    """
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    rows = {name: cells for (name, of), cells in group(results).items() if of == budget}
    figure, axes = plt.subplots(figsize=(7, 4.5), layout='constrained')
    for name in names or rows:
        cells = rows.get(name, [])
        curves = [
            {int(epoch): value for epoch, value in cell['curves'][CURVE].items()} for cell in cells
        ]
        if not curves:
            continue
        shared = sorted(set.intersection(*map(set, curves)))
        cost = cells[0]['network_passes'] / cells[0]['epochs']
        means = [statistics.mean(curve[epoch] for curve in curves) for epoch in shared]
        axes.plot([epoch * cost for epoch in shared], means, marker='o', label=name)
        low, high = (
            [pick(curve[epoch] for curve in curves) for epoch in shared] for pick in (min, max)
        )
        axes.fill_between([epoch * cost for epoch in shared], low, high, alpha=0.2)
    axes.set_xlabel('network passes for each training image')
    axes.set_ylabel('kNN accuracy of the backbone, %')
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
