"""A figure of walks on the kNN graph: images and what the propagation reaches from them."""

import io
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..evaluation import neighbours_by_hop, read_run
from .charts import COLOURS, with_style
from .options import ReportOptions
from .pictures import read_picture
from .run_data import RunData

SHOWN = (4, 5, 6)  # Images of the first, second and third hop.
SIDE = 96  # Pixels of an image.
INCH = 0.72  # Width of a column.
GAP = 0.35  # Between two hops, in columns.
SAME, OTHER = COLOURS[0], COLOURS[1]
SAVE = dict(bbox_inches='tight', pad_inches=0.05, pil_kwargs=dict(quality=75))


def write_walks(
    run: str | Path,
    out: str | Path,
    options: ReportOptions | None = None,
    checkpoint: str | Path | None = None,
) -> None:
    """Draw the anchors of a report, one in a row, with images of their neighbours at each hop.

    Of a hop with more images than fit, those shown are spaced evenly from the most to the least
    similar. The number below an image is its cosine similarity to the anchor. With labels, a
    check mark stands for the class of the anchor, a cross and a dashed frame for another class,
    and the title of a hop names the share of all its images that have the class of their anchor.

    Args:
        run (str | Path): Work folder of the run.
        out (str | Path): File to write; its suffix is the format: ``.webp``, ``.png`` or ``.jpg``.
        options (ReportOptions, optional): Defaults to None, the default options.
        checkpoint (str | Path, optional): Checkpoint to read. Defaults to None, the latest.

    Raises:
        FileNotFoundError: If the folder, its logs or the checkpoint do not exist.

    Example:
        >>> write_walks('work_dirs/invp', 'walks.webp')  # doctest: +SKIP
    """
    data = RunData(read_run(run, checkpoint), options or ReportOptions())
    content = draw_walks(data, Path(out).suffix.removeprefix('.') or 'webp')
    Path(out).write_bytes(content)


@with_style
def draw_walks(data: RunData, suffix: str) -> bytes:
    """Draw the figure of :func:`write_walks` and encode it in an image format."""
    neighbours, _ = data.graph
    hops = min(data.hops, len(SHOWN))
    walks = [neighbours_by_hop(neighbours, anchor, hops) for anchor in data.anchors]
    starts = np.cumsum([0, *(count + GAP for count in (1, *SHOWN[: hops - 1]))])
    width, height = starts[-1] + SHOWN[hops - 1], len(walks) * 1.25 + 0.3
    figure = Figure(figsize=(width * INCH, height * INCH))
    titles = ['anchor', *(_title(data, walks, hop) for hop in range(hops))]
    for start, title in zip(starts, titles, strict=True):
        figure.text(start / width, 1 - 0.2 / height, title, fontsize=8, weight='bold', va='bottom')

    def axes(row: int, column: float) -> Axes:
        bottom = height - 0.3 - 1.25 * row - 0.98
        found = figure.add_axes((column / width, bottom / height, 0.94 / width, 0.94 / height))
        found.set(xticks=[], yticks=[])
        return found

    for row, (anchor, walk) in enumerate(zip(data.anchors, walks, strict=True)):
        _show(axes(row, 0), data, anchor, anchor)
        for start, reached, count in zip(starts[1:], walk, SHOWN, strict=False):
            similarity = data.embedding[reached] @ data.embedding[anchor]
            ordered = reached[similarity.argsort(descending=True)].tolist()
            for place, image in enumerate(evenly_spaced(ordered, count)):
                _show(axes(row, start + place), data, anchor, image)
    file = io.BytesIO()
    figure.savefig(file, format=suffix, dpi=SIDE / INCH / 0.94, **SAVE)
    return file.getvalue()


def evenly_spaced(values: list, num: int) -> list:
    """Select at most ``num`` of the values, evenly spaced, from the first to the last."""
    if len(values) <= num:
        return values
    return [values[round(i * (len(values) - 1) / (num - 1))] for i in range(num)]


def _title(data: RunData, walks: list, hop: int) -> str:
    reached = [walk[hop] for walk in walks]
    title = f'hop {hop + 1}: {sum(map(len, reached)) / len(walks):.0f} images'
    if data.gallery.label is None:
        return title
    label = data.gallery.label
    same = [label[found] == label[a] for a, found in zip(data.anchors, reached, strict=True)]
    count = max(sum(map(len, same)), 1)
    return f'{title}, {sum(int(one.sum()) for one in same) / count:.0%} of the class'


def _show(axes: Axes, data: RunData, anchor: int, image: int) -> None:
    picture = read_picture(data.gallery.path(image), SIDE)
    axes.imshow(np.asarray(picture))
    label = data.gallery.label
    name = '' if label is None else data.gallery.class_name(image)
    caption, colour = name, 'black'
    if image != anchor:
        caption = f'{float(data.embedding[image] @ data.embedding[anchor]):.2f}'
    if image != anchor and label is not None:
        same = bool(label[image] == label[anchor])
        caption, colour = f'{caption} {"✓" if same else "✗ " + name}', SAME if same else OTHER
        axes.spines[:].set(linestyle='-' if same else '--')
    axes.spines[:].set(visible=True, color=colour, linewidth=1.5)
    size = min(6.5, 90 / max(len(caption), 1))  # Long names of classes fit below the image.
    axes.set_xlabel(caption, fontsize=size, labelpad=2, color=colour)
