"""Charts of metrics and features, embedded in the page as data URIs."""

import base64
import io
import re
from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ..evaluation import Curve
from .blocks import Chart

# Okabe and Ito (https://jfly.uni-koeln.de/color/), distinct under colour blindness; their yellow
# is left out, for lines in it have little contrast on white.
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
    'legend.fontsize': 'small',
    'svg.fonttype': 'none',  # Text instead of outlines: a small file, sharp at any scale.
    'svg.hashsalt': 'mmselfsup_invp',  # Makes the file reproducible.
}
# In inches of 96 CSS pixels. Text of the large ones stays readable when a page of 390 pixels scales
# them down; two small ones fit side by side.
LARGE, SMALL = (4.8, 3.2), (3.5, 2.4)
MAX_POINTS = 400  # Points of a curve; neighbouring points of longer ones are averaged.
BINS = 40
PAGE_DPI = 96
# Without a date the file is reproducible; without a background it suits the dark page.
SVG = dict(format='svg', metadata={'Date': None}, transparent=True)

with_style = matplotlib.rc_context(STYLE)


def data_uri(content: bytes, subtype: str) -> str:
    """Encode an image file as a data URI, for example of the subtype ``'webp'``."""
    return f'data:image/{subtype};base64,{base64.b64encode(content).decode()}'


@with_style
def line_chart(
    curves: Mapping[str, Curve],
    title: str,
    y_label: str,
    size: tuple[float, float] = LARGE,
) -> Chart:
    """Draw curves over the epochs as SVG; several curves get a legend.

    ``y_label`` is the name and unit of the values, ``size`` the width and height in inches.
    """
    figure = _new_figure(size, title, 'epoch', y_label)
    (axes,) = figure.axes
    for number, (name, curve) in enumerate(curves.items()):
        epoch, value = average_points(curve)
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
    if low == high >= 0:  # Matplotlib would zoom in on a constant curve.
        axes.set_ylim(0, 1.2 * high or 1)
    _add_legend(figure, len(curves))
    last = ', '.join(f'{name} ends at {curve.value[-1]:.4g}' for name, curve in curves.items())
    return _encode(figure, f'{title}, over the epochs: {last}.')


def average_points(curve: Curve, max_points: int = MAX_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Average neighbouring points of a long curve: epochs and values, float64."""
    group = -(-len(curve.epoch) // max_points)
    starts = np.arange(0, len(curve.epoch), group)
    count = np.diff(np.append(starts, len(curve.epoch)))
    parts = (np.asarray(part, dtype=np.float64) for part in (curve.epoch, curve.value))
    epoch, value = (np.add.reduceat(part, starts) / count for part in parts)
    return epoch, value


@with_style
def histogram(
    groups: Mapping[str, Tensor],
    title: str,
    x_label: str,
    y_label: str,
    bins: np.ndarray,
    percent: bool = False,
) -> Chart:
    """Draw overlaid histograms as SVG, each with a vertical line at its mean.

    ``groups`` holds values by their name in the legend, ``bins`` the edges. With ``percent`` the
    bars show shares of a group's values instead of numbers.
    """
    figure = _new_figure(LARGE, title, x_label, y_label)
    (axes,) = figure.axes
    for number, (name, values) in enumerate(groups.items()):
        values = values.double().numpy()
        colour = COLOURS[number]
        weights = np.full(len(values), 100 / len(values) if percent else 1.0)
        line = dict(color=colour, linewidth=1.6, linestyle=DASHES[number])
        axes.hist(values, bins, weights=weights, histtype='stepfilled', color=colour, alpha=0.25)
        axes.hist(values, bins, weights=weights, histtype='step', **line, label=name)
        axes.axvline(values.mean(), **line | dict(linewidth=1.0))
    axes.set_xlim(bins[0], bins[-1])
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    _add_legend(figure, len(groups))
    means = ', '.join(
        f'{name} mean {values.double().mean():.3g}' for name, values in groups.items()
    )
    return _encode(figure, f'{title}: {means}.')


def bin_edges(values: Tensor, integer: bool = False) -> np.ndarray:
    """Compute edges of bins that cover all values; integers lie in the middle of their bins."""
    low, high = values.min().item(), values.max().item()
    if not integer:
        return np.linspace(low, max(high, low + 1e-6), BINS + 1)
    width = max(-(-int(high - low + 1) // BINS), 1)
    return np.arange(low, high + width + 1, width) - 0.5


def _new_figure(size: tuple[float, float], title: str, x_label: str, y_label: str) -> Figure:
    """Create a figure with one pair of axes, independent of the state of pyplot."""
    figure = Figure(figsize=size, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel=x_label, ylabel=y_label)
    axes.set_title(title, fontsize='medium', loc='left')
    return figure


def _add_legend(figure: Figure, entries: int) -> None:
    """Add a legend below the axes if there are several entries."""
    if entries > 1:
        columns = min(entries, 3 if entries <= 6 else 5)
        figure.legend(loc='outside lower center', ncols=columns, columnspacing=1.2)


def _encode(figure: Figure, alt: str) -> Chart:
    file = io.BytesIO()
    figure.savefig(file, **SVG)
    uri = data_uri(re.sub(rb'\n +', b'\n', file.getvalue()), 'svg+xml')  # Without indents.
    return Chart(uri, alt, round(figure.get_figwidth() * PAGE_DPI))
