"""An HTML page about a run in a single file."""

import base64
import hashlib
import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryFile

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..datasets.files import write_whole
from ..evaluation import read_run
from ..version import __version__
from . import distributions, metrics
from .benchmarks import benchmarks
from .blocks import Block, Code, ImagesUnavailable, Section, Table, Unavailable
from .image_map import explore
from .options import ReportOptions
from .retrieval import retrieval
from .run_data import RunData
from .verdict import verdict

ASSETS = Path(__file__).parent / 'assets'
SCRIPTS = ('data.js', 'panel.js', 'map.js', 'page.js')  # In the order of the page.
PACKAGES = (
    *('torch', 'torchvision', 'mmengine', 'mmcv', 'mmcls', 'mmselfsup', 'mmpretrain'),
    'scikit-learn',
)
COMMIT = re.compile(r'([0-9a-f]{40}|unknown)$')  # MMEngine appends it to its version.
TIMESTAMP = '%Y%m%d_%H%M%S'  # In the names of MMEngine's log folders.


def overview(data: RunData) -> list[Block]:
    """Show config, checkpoint, dates, versions and scores."""
    run, meta = data.run, data.run.meta
    rows = [
        ['config', meta.get('experiment_name', '').rsplit('_', 2)[0] or '-'],
        ['method', run.config.model.type],
        ['checkpoint', f'{run.checkpoint.name} (epoch {meta["epoch"]}, iteration {meta["iter"]})'],
        ['started', ', resumed '.join(map(_date, run.starts))],
        ['checkpoint saved', _date(meta.get('time', '-'))],
        ['seed', str(meta.get('seed', '-'))],
        ['trained with', f'mmengine {COMMIT.sub("", meta.get("mmengine_version", "-"))}'],
        ['reported with', ', '.join(_versions())],
    ]
    return [Table([], rows), *metrics.scores(data)]


def configuration(data: RunData) -> list[Block]:
    """Show the config."""
    return [Code('Config of the run with all inherited settings', data.run.config.pretty_text)]


# Name, title and function of the sections, in the order of the page.
SECTIONS: tuple[tuple[str, str, Callable[[RunData], list[Block]]], ...] = (
    ('verdict', 'Verdict', verdict),
    ('map', 'Map of the images', explore),
    ('overview', 'Overview', overview),
    ('learning', 'Learning curves', metrics.learning),
    ('knn', 'kNN accuracy and purity', metrics.knn),
    ('graph', 'Graph health', metrics.graph),
    ('clusters', 'Clusters', metrics.clusters),
    ('sizes', 'Cluster sizes', distributions.sizes),
    ('similarities', 'Similarity distributions', distributions.similarities),
    ('retrieval', 'Retrieval', retrieval),
    ('benchmarks', 'Benchmarks', benchmarks),
    ('config', 'Config', configuration),
)


def write_report(
    run: str | Path,
    out: str | Path,
    options: ReportOptions | None = None,
    checkpoint: str | Path | None = None,
    progress: Callable[[str], None] = print,
) -> list[str]:
    """Write an HTML page about a run of ``tools/train.py``.

    The page embeds its images and scripts and needs no network; a content security policy rules
    out any other script, whatever the file names contain. Sections that do not apply to the run are
    omitted; the page says why.

    Args:
        run (str | Path): Work folder of the run.
        out (str | Path): File to write.
        options (ReportOptions, optional): What to show. Defaults to None, the default options.
        checkpoint (str | Path, optional): Checkpoint to read. Defaults to None, the latest.
        progress (Callable): Receives a line of text for each section. Defaults to ``print``.

    Returns:
        list[str]: Titles of the sections that are missing because images cannot be read.

    Raises:
        FileNotFoundError: If the folder, its logs or the checkpoint do not exist.
        ValueError: If the checkpoint cannot be read, or an anchor is outside the data set.
        OSError: If the file cannot be written; this is checked first.

    Example:
        >>> write_report('work_dirs/invp', 'report.html')  # doctest: +SKIP
    """
    out = Path(out)
    data = RunData(read_run(run, checkpoint), options or ReportOptions())
    _require_writable(out)
    _ = data.model  # An unsuitable checkpoint and invalid anchors are reported first.
    with suppress(Unavailable):
        _ = data.anchors
    sections, omitted, failed = [], [], []
    for name, title, create in SECTIONS:
        start = time.perf_counter()
        try:
            sections.append(Section(name, title, create(data)))
        except Unavailable as reason:
            omitted.append((title, str(reason)))
            if isinstance(reason, ImagesUnavailable):
                failed.append(title)
            progress(f'{title}: omitted, {reason}')
        else:
            progress(f'{title}: {time.perf_counter() - start:.1f} s')
    title = f'{data.run.config.model.type}, {data.run.path.resolve().name}'
    page = render(title, sections, omitted)
    write_whole(out, page)
    return failed


def _require_writable(out: Path) -> None:
    if out.is_dir():
        raise IsADirectoryError(f'{out} is a folder. Name a file, such as {out / "report.html"}.')
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise OSError(
            f'The page cannot be written to {out}: {error.strerror}. Name another file by --out.'
        ) from error


def render(title: str, sections: list[Section], omitted: list[tuple[str, str]]) -> str:
    """Render a page in HTML; ``omitted`` are titles of other sections and why they are missing."""
    script = '\n'.join((ASSETS / name).read_text() for name in SCRIPTS)
    # The browser runs the script with this hash and no other.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template('report.html').render(
        title=title,
        sections=sections,
        omitted=omitted,
        created=f'{datetime.now():%Y-%m-%d %H:%M}',
        version=__version__,
        style=Markup((ASSETS / 'report.css').read_text()),
        script=Markup(script),
        script_hash=digest,
    )


def _date(timestamp: str) -> str:
    try:
        return f'{datetime.strptime(timestamp, TIMESTAMP):%Y-%m-%d %H:%M:%S}'
    except ValueError:
        return timestamp


def _versions() -> list[str]:
    versions = [f'mmselfsup_invp {__version__}']
    for name in PACKAGES:
        with suppress(PackageNotFoundError):  # mmcv may be installed as mmcv-lite.
            versions.append(f'{name} {version(name)}')
    return versions
