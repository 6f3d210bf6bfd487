"""Charts of numbers as pictures that lie inside the page."""

import base64
import io
from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ..evaluation import Curve
from .blocks import Chart

# Okabe and Ito, distinct to the colour-blind too (https://jfly.uni-koeln.de/color/), without the
# yellow, which is too light for lines on white.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
DASHES = ('-', '--', '-.', ':')
MARKERS = ('o', '^', 's', 'D')
STYLE = {
    'font.size': 10,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'grid.color': '#dddddd',
    'legend.frameon': False,
    'svg.fonttype': 'none',  # Letters stay letters: small, and sharp at any size.
    'svg.hashsalt': 'mmselfsup_invp',  # The same numbers give the same file.
}
WIDE, NARROW = (8.4, 3.4), (3.5, 2.4)
# Points of a curve; of more, neighbours are averaged.
MAX_POINTS = 400
# Kinds of points that colours and markers still tell apart.
MAX_GROUPS = 20
BINS = 40
# Dots an inch of a page, and of pictures in it, which stay sharp on finer screens.
PAGE_DPI, PNG_DPI = 96, 160
# Without a date the same numbers give the same file.
METADATA = {'svg': {'Date': None}, 'png': {}}

in_style = matplotlib.rc_context(STYLE)


def data_uri(content: bytes, kind: str) -> str:
    """A file as an address that holds it."""
    return f'data:image/{kind};base64,{base64.b64encode(content).decode()}'


def encode(figure: Figure, alt: str, kind: str = 'svg') -> Chart:
    """Draw a figure.

    Args:
        figure (Figure): Of matplotlib.
        alt (str): What it shows, in words.
        kind (str): ``'svg'``, or ``'png'`` for thousands of points. Defaults to ``'svg'``.

    Returns:
        Chart: The picture as a data URI.
    """
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=PNG_DPI, metadata=METADATA[kind])
    uri = data_uri(file.getvalue(), 'svg+xml' if kind == 'svg' else kind)
    return Chart(uri, alt, round(figure.get_figwidth() * PAGE_DPI))


def new_figure(size: tuple[float, float], title: str, x_label: str, y_label: str) -> Figure:
    """An empty figure with one pair of axes, without any state of pyplot.

    Args:
        size (tuple[float, float]): Width and height in inches.
        title (str): What stands above it.
        x_label (str): Of the horizontal axis, with its unit.
        y_label (str): Of the vertical axis, with its unit.
    """
    figure = Figure(figsize=size, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel=x_label, ylabel=y_label)
    axes.set_title(title, fontsize='medium', loc='left')
    return figure


@in_style
def line_chart(
    curves: Mapping[str, Curve],
    title: str,
    y_label: str,
    size: tuple[float, float] = WIDE,
) -> Chart:
    """Curves over the epochs.

    Args:
        curves (Mapping[str, Curve]): By the name that stands in the legend; a single one has none.
        title (str): What stands above it.
        y_label (str): What the values are, with their unit.
        size (tuple[float, float]): In inches. Defaults to a wide chart.

    Returns:
        Chart: As SVG.

    Example:
        >>> chart = line_chart({'loss': Curve([1.0, 2.0], [3.0, 2.5])}, 'Loss', 'loss')
        >>> chart.uri[:26]
        'data:image/svg+xml;base64,'
    """
    figure = new_figure(size, title, 'epoch', y_label)
    (axes,) = figure.axes
    for number, (name, curve) in enumerate(curves.items()):
        epoch, value = thin(curve)
        axes.plot(
            epoch,
            value,
            label=name,
            color=COLOURS[number % len(COLOURS)],
            linestyle=DASHES[number % len(DASHES)],
            linewidth=1.6,
            marker=MARKERS[number % len(MARKERS)] if len(epoch) <= 60 else None,
            markersize=3.5,
            clip_on=False,
        )
    axes.ticklabel_format(axis='y', useOffset=False, scilimits=(-3, 4))
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    counts = all(value == int(value) for curve in curves.values() for value in curve.value)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=counts))
    low, high = axes.dataLim.intervaly
    if low == high >= 0:  # A line without ups and downs needs no magnifying glass.
        axes.set_ylim(0, 1.2 * high or 1)
    if len(curves) > 1:
        axes.legend(fontsize='small', loc='center left', bbox_to_anchor=(1, 0.5))
    last = ', '.join(f'{name} ends at {curve.value[-1]:.4g}' for name, curve in curves.items())
    return encode(figure, f'{title}, over the epochs: {last}.')


def thin(curve: Curve, max_points: int = MAX_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Average neighbouring points of a long curve.

    Returns:
        tuple[ndarray, ndarray]: Epochs and values, float64, ``max_points`` at most.
    """
    group = -(-len(curve.epoch) // max_points)
    starts = np.arange(0, len(curve.epoch), group)
    count = np.diff(np.append(starts, len(curve.epoch)))
    parts = (np.asarray(part, dtype=np.float64) for part in (curve.epoch, curve.value))
    epoch, value = (np.add.reduceat(part, starts) / count for part in parts)
    return epoch, value


@in_style
def histogram(
    groups: Mapping[str, Tensor],
    title: str,
    x_label: str,
    y_label: str,
    bins: np.ndarray,
    share: bool = False,
) -> Chart:
    """Distributions on top of one another, each with its mean.

    Args:
        groups (Mapping[str, Tensor]): Values by the name that stands in the legend.
        title (str): What stands above it.
        x_label (str): What the values are, with their unit.
        y_label (str): What is counted.
        bins (ndarray): Edges.
        share (bool): Whether a bar is the share of the group's values in per cent, not their
            number. Defaults to False.

    Returns:
        Chart: As SVG.
    """
    figure = new_figure(WIDE, title, x_label, y_label)
    (axes,) = figure.axes
    for number, (name, values) in enumerate(groups.items()):
        values = values.double().numpy()
        colour = COLOURS[number]
        weights = np.full(len(values), 100 / len(values) if share else 1.0)
        look = dict(color=colour, linewidth=1.6, linestyle=DASHES[number])
        axes.hist(values, bins, weights=weights, histtype='stepfilled', color=colour, alpha=0.25)
        axes.hist(values, bins, weights=weights, histtype='step', **look, label=name)
        axes.axvline(values.mean(), **look | dict(linewidth=1.0))
    axes.set_xlim(bins[0], bins[-1])
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    if len(groups) > 1:
        axes.legend(fontsize='small', loc='upper left')
    means = ', '.join(
        f'{name} mean {values.double().mean():.3g}' for name, values in groups.items()
    )
    return encode(figure, f'{title}: {means}.')


def edges(values: Tensor, integer: bool = False) -> np.ndarray:
    """Edges of bins that hold all values; of whole numbers, each in the middle of a bin."""
    low, high = values.min().item(), values.max().item()
    if not integer:
        return np.linspace(low, max(high, low + 1e-6), BINS + 1)
    width = max(-(-int(high - low + 1) // BINS), 1)
    return np.arange(low, high + width + 1, width) - 0.5


@in_style
def scatter(points: Tensor, groups: Mapping[str, Tensor] | None, title: str) -> Chart:
    """Points of a plane whose axes have no meaning.

    Args:
        points (Tensor): Float, shape ``(P, 2)``.
        groups (Mapping[str, Tensor], optional): Rows of each group by its name, at most
            :data:`MAX_GROUPS`; the name is written at its middle too. Defaults to None, one group.
        title (str): What stands above it.

    Returns:
        Chart: As PNG, for SVG keeps every point.
    """
    figure = new_figure((8.4, 5.8), title, 't-SNE 1 (no unit)', 't-SNE 2 (no unit)')
    (axes,) = figure.axes
    place = points.numpy()
    if groups is None:
        axes.scatter(*place.T, s=12, c=COLOURS[0], linewidths=0)
    for number, (name, rows) in enumerate((groups or {}).items()):
        own = place[rows.numpy()]
        axes.scatter(
            *own.T,
            s=14,
            c=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number // len(COLOURS) % len(MARKERS)],
            alpha=0.75,
            linewidths=0,
            label=name,
        )
        box = dict(boxstyle='round,pad=0.15', facecolor='white', edgecolor='none', alpha=0.8)
        axes.text(*np.median(own, axis=0), name, ha='center', va='center', weight='bold', bbox=box)
    axes.grid(False)
    axes.tick_params(labelbottom=False, labelleft=False, length=0)
    if groups:
        axes.legend(loc='center left', bbox_to_anchor=(1, 0.5), markerscale=2)
    return encode(figure, f'{title}: {len(points)} images as points.', 'png')
