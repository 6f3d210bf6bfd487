"""One page about a run, with everything inside."""

import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryFile

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from ..datasets.files import write_whole
from ..evaluation import read_run
from ..version import __version__
from . import curves, images
from .benchmarks import benchmarks
from .blocks import Absent, Block, Code, Section, Table
from .source import Options, Source

TEMPLATE = 'report.html'
PACKAGES = (
    *('torch', 'torchvision', 'mmengine', 'mmcv', 'mmcls', 'mmselfsup', 'mmpretrain'),
    'scikit-learn',
)
COMMIT = re.compile(r'([0-9a-f]{40}|unknown)$')  # Which MMEngine appends to its version.
STAMP = '%Y%m%d_%H%M%S'  # In which MMEngine names the folder of a start.


def overview(source: Source) -> list[Block]:
    """What was trained, when and with what, and how it ended."""
    run = source.run
    meta = run.meta
    name = meta.get('experiment_name', '')
    rows = [
        ['config', name.rsplit('_', 2)[0] or '-'],
        ['method', run.config.model.type],
        ['checkpoint', f'{run.checkpoint.name} (epoch {meta["epoch"]}, iteration {meta["iter"]})'],
        ['started', ', resumed '.join(map(_date, run.starts))],
        ['checkpoint saved', _date(meta.get('time', '-'))],
        ['seed', str(meta.get('seed', '-'))],
        ['trained with', f'mmengine {COMMIT.sub("", meta.get("mmengine_version", "-"))}'],
        ['reported with', ', '.join(_versions())],
    ]
    return [Table([], rows), *curves.last_figures(source)]


def configuration(source: Source) -> list[Block]:
    """The config as it was run."""
    return [
        Code('The config of the run, all inherited settings in it', source.run.config.pretty_text)
    ]


# Name, title and maker of every section, in the order of the page.
SECTIONS: tuple[tuple[str, str, Callable[[Source], list[Block]]], ...] = (
    ('overview', 'Overview', overview),
    ('learning', 'Learning curves', curves.learning),
    ('knn', 'kNN accuracy and purity', curves.knn),
    ('graph', 'Graph health', curves.graph),
    ('clusters', 'Clusters', curves.clusters),
    ('sizes', 'Cluster sizes', images.sizes),
    ('similarities', 'Similarity distributions', images.similarities),
    ('positives', 'Easy and hard positives', images.positives),
    ('hops', 'Neighbours per hop', images.hops),
    ('retrieval', 'Retrieval', images.retrieval),
    ('tsne', 't-SNE', images.layout),
    ('benchmarks', 'Benchmarks', benchmarks),
    ('config', 'Config', configuration),
)


def write_report(
    run: str | Path,
    out: str | Path,
    options: Options | None = None,
    checkpoint: str | Path | None = None,
    progress: Callable[[str], None] = print,
) -> None:
    """Write one HTML page about a run of ``tools/train.py``.

    The page holds its pictures and needs neither a network nor JavaScript. Sections for which the
    run has no data are left out; the page says why.

    Args:
        run (str | Path): The work folder.
        out (str | Path): The file to write.
        options (Options, optional): What to show. Defaults to None, see :class:`Options`.
        checkpoint (str | Path, optional): Checkpoint to look at. Defaults to None, the latest.
        progress (Callable): Takes a line about each section. Defaults to ``print``.

    Raises:
        FileNotFoundError: If the folder, its logs or the checkpoint are missing.
        ValueError: If the checkpoint cannot be read, or an anchor is no image of the data set.
        OSError: If the file to write is a folder, or cannot be written. Nothing is made then.

    Example:
        >>> write_report('work_dirs/invp', 'report.html')  # doctest: +SKIP
    """
    out = Path(out)
    source = Source(read_run(run, checkpoint), options or Options())
    _require_writable(out)
    with suppress(Absent):
        _ = source.anchors  # Refused before anything long begins.
    sections, left_out = [], []
    for name, title, make in SECTIONS:
        start = time.perf_counter()
        try:
            sections.append(Section(name, title, make(source)))
        except Absent as reason:
            left_out.append((title, str(reason)))
            progress(f'{title}: left out, {reason}')
        else:
            progress(f'{title}: made in {time.perf_counter() - start:.1f} s')
    page = _template().render(
        title=f'{source.run.config.model.type}, {source.run.path.resolve().name}',
        sections=sections,
        left_out=left_out,
        made=f'{datetime.now():%Y-%m-%d %H:%M}',
        version=__version__,
    )
    write_whole(out, page)


def _require_writable(out: Path) -> None:
    if out.is_dir():
        raise IsADirectoryError(f'{out} is a folder. Name a file to write, {out / "report.html"}.')
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise OSError(
            f'The page cannot be written to {out}: {error.strerror}. Name another file by --out.'
        ) from error


def _template() -> Template:
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE)


def _date(stamp: str) -> str:
    try:
        return f'{datetime.strptime(stamp, STAMP):%Y-%m-%d %H:%M:%S}'
    except ValueError:
        return stamp


def _versions() -> list[str]:
    found = [f'mmselfsup_invp {__version__}']
    for name in PACKAGES:
        try:
            found.append(f'{name} {version(name)}')
        except PackageNotFoundError:
            continue  # mmcv has other names too.
    return found
