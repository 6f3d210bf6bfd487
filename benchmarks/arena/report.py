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
    training image, forward 1 and backward 2; seconds are those of training, CPU time on one core or
    elapsed time on a GPU.
    """
    rows = [['trial', 'seeds', 'passes', 'seconds', *FIGURES]]

    def order(item: tuple[tuple[str, int], list[dict]]) -> tuple[int, float]:
        (_, budget), cells = item
        return -budget, -statistics.mean(cell['figures']['backbone'] for cell in cells)

    for (name, _), cells in sorted(group(results).items(), key=order):
        passes = statistics.mean(cell['network_passes'] for cell in cells)
        cost = [f'{passes:.0f}', seconds(cells)]
        figures = [mean_and_error(values(cells, key)) for key in FIGURES.values()]
        rows.append([name, str(len(cells)), *cost, *figures])
    return markdown(rows)


def differences(
    results: Iterable[dict], pairs: Iterable[tuple[str, str]], labels: dict[str, str] | None = None
) -> str:
    """A table in Markdown of differences between rows, seed by seed.

    Percentage points; mean over the seeds that both rows have at the same budget, and standard
    error of the mean. A pair without a common seed is left out.

    Args:
        results (Iterable[dict]): Lines of the results file.
        pairs (Iterable[tuple[str, str]]): Names of two rows; the second is subtracted.
        labels (dict[str, str], optional): What to write for a name. Defaults to the name.
    """
    runs = by_run(results)
    rows = [['difference', 'pairs', *FIGURES]]
    for pair in pairs:
        twins = twins_of(runs, *pair)
        if twins:
            entries = [mean_and_error(gain(twins, key), digits=2) for key in FIGURES.values()]
            label = ' - '.join((labels or {}).get(name, name) for name in pair)
            rows.append([label, str(len(twins)), *entries])
    return markdown(rows)


def by_run(results: Iterable[dict]) -> dict[str, dict[tuple[int, int], dict]]:
    """Results of each name by budget and seed."""
    runs: dict[str, dict[tuple[int, int], dict]] = defaultdict(dict)
    for (name, budget), cells in group(results).items():
        runs[name] |= {(budget, cell['seed']): cell for cell in cells}
    return dict(runs)


def runs_of(runs: dict[str, dict], name: str) -> dict[tuple[int, int], dict]:
    """Results of a row by budget and seed.

    Raises:
        ValueError: If there are none.
    """
    if name not in runs:
        raise ValueError(f'There is no result of {name}: measure it, or remove the row.')
    return runs[name]


def twins_of(
    runs: dict[str, dict[tuple[int, int], dict]], name: str, other: str
) -> list[tuple[dict, dict]]:
    """Results of two rows at each budget and seed that both have."""
    one, two = runs.get(name, {}), runs.get(other, {})
    return [(one[run], two[run]) for run in sorted(one.keys() & two.keys())]


def gain(twins: Iterable[tuple[dict, dict]], key: str) -> list[float]:
    """Differences of a figure, of the pairs in which both have it."""
    figures = [(one['figures'], two['figures']) for one, two in twins]
    return [one[key] - two[key] for one, two in figures if key in one and key in two]


def seconds(cells: Iterable[dict]) -> str:
    """Mean time of training."""
    return f'{statistics.mean(cell["seconds"] for cell in cells):.0f}'


def values(cells: Iterable[dict], key: str) -> list[float]:
    """A figure of the results that have it."""
    return [cell['figures'][key] for cell in cells if key in cell['figures']]


def draw_curves(results: Iterable[dict], labels: dict[str, str], path: Path) -> None:
    """Draw the kNN accuracy of the backbone over the network passes, mean over the seeds.

    Args:
        results (Iterable[dict]): Lines of the results file.
        labels (dict[str, str]): Names of the rows to draw, in this order, and their labels.
        path (Path): Picture to write.

    Raises:
        ValueError: If a row has no result.
    """
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    runs = by_run(results)
    figure, axes = plt.subplots(figsize=(7, 4.5), layout='constrained')
    for name, label in labels.items():
        cells = list(runs_of(runs, name).values())
        curves = [
            {int(epoch): value for epoch, value in cell['curves'][CURVE].items()} for cell in cells
        ]
        shared = sorted(set.intersection(*map(set, curves)))
        cost = cells[0]['network_passes'] / cells[0]['epochs']
        passes = [epoch * cost for epoch in shared]
        means = [statistics.mean(curve[epoch] for curve in curves) for epoch in shared]
        axes.plot(passes, means, marker='o', label=label)
        low, high = (
            [pick(curve[epoch] for curve in curves) for epoch in shared] for pick in (min, max)
        )
        axes.fill_between(passes, low, high, alpha=0.2)
    axes.set_xlabel('network passes for each training image')
    axes.set_ylabel('kNN accuracy of the backbone, %')
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
