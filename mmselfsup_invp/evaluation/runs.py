"""What a training run left in its work folder: checkpoint, config and logged figures."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from mmengine.config import Config
from torch import Tensor

from .checkpoints import read_checkpoint, run_config

LOGS = '*/vis_data/scalars.json'
# Figures that the hooks log with the iterations before them as the step.
BY_ITERATION = ('sela/',)
# What every line of a log has beside its figures.
COUNTERS = ('epoch', 'iter', 'step')


@dataclass(frozen=True)
class Curve:
    """One logged figure over the run.

    Attributes:
        epoch (list[float]): When, in epochs done; ascending.
        value (list[float]): The figure.
    """

    epoch: list[float]
    value: list[float]


@dataclass(frozen=True)
class TrainingRun:
    """A run of ``tools/train.py``, from :func:`read_run`.

    Attributes:
        path (Path): The work folder.
        checkpoint (Path): The checkpoint that was read.
        state (dict[str, Tensor]): Its weights and buffers, on the CPU.
        meta (dict): What MMEngine notes in it: ``epoch``, ``iter``, ``seed``, ``time``, versions.
        config (Config): The config of the run.
        starts (list[str]): When it was started and resumed, ``YYYYMMDD_HHMMSS``.
        curves (dict[str, Curve]): Logged figures by name.
    """

    path: Path
    checkpoint: Path
    state: dict[str, Tensor]
    meta: dict
    config: Config
    starts: list[str]
    curves: dict[str, Curve]


def read_run(path: str | Path, checkpoint: str | Path | None = None) -> TrainingRun:
    """Read a work folder of ``tools/train.py``.

    A resumed run has a log for every start; what was trained again after a resumption counts once,
    as it was the last time.

    Args:
        path (str | Path): The work folder.
        checkpoint (str | Path, optional): Checkpoint to read. Defaults to None, the one that
            ``last_checkpoint`` names, or else that with the highest number.

    Returns:
        TrainingRun: What is there.

    Raises:
        FileNotFoundError: If there is no such folder, no checkpoint or no log in it.
        ValueError: If the checkpoint cannot be read, or holds no config.

    Example:
        >>> run = read_run('work_dirs/invp')  # doctest: +SKIP
        >>> run.curves['loss'].value[-1]  # doctest: +SKIP
        5.68
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(
            f'There is no folder {path}. Give the work folder of a run, which tools/train.py makes '
            'below work_dirs.'
        )
    logs = sorted(path.glob(LOGS))
    if not logs:
        raise FileNotFoundError(
            f'{path} has no log ({LOGS}). Give the work folder of a run, the one that holds its '
            'checkpoints.'
        )
    file = latest_checkpoint(path) if checkpoint is None else Path(checkpoint)
    content = read_checkpoint(file)
    meta = content.get('meta', {})
    return TrainingRun(
        path=path,
        checkpoint=file,
        state=content['state_dict'],
        meta={name: value for name, value in meta.items() if name != 'cfg'},
        config=run_config(file, content),
        starts=[log.parents[1].name for log in logs],
        curves=_read_curves(logs, _epoch_length(file, meta)),
    )


def separate_logs(config: Config, name: str) -> None:
    """Give a run a name of its own among those of this process.

    MMEngine keeps loggers and visualisers by their names: a second run of a process would write its
    figures into the folder of the first.

    Args:
        config (Config): Changed in place.
        name (str): What the name begins with.
    """
    config.experiment_name = f'{name}_{uuid4().hex[:8]}'
    if config.get('visualizer'):
        config.visualizer.name = config.experiment_name
        config.visualizer.setdefault('vis_backends', [dict(type='LocalVisBackend')])


def latest_checkpoint(path: Path) -> Path:
    """The checkpoint of a work folder that ``last_checkpoint`` names, or else the last by number.

    Raises:
        FileNotFoundError: If there is none.
    """
    note = path / 'last_checkpoint'
    if note.is_file():
        # By name alone: the folder may have been moved since.
        named = path / Path(note.read_text().strip()).name
        if named.is_file():
            return named
    numbered = [(int(found[1]), file) for file in path.glob('*.pth') if (found := _number(file))]
    if not numbered:
        raise FileNotFoundError(
            f'{path} has no checkpoint (epoch_*.pth or iter_*.pth). Train at least until '
            'default_hooks.checkpoint.interval, or give one by --checkpoint.'
        )
    return max(numbered)[1]


def _number(file: Path) -> re.Match | None:
    return re.fullmatch(r'(?:epoch|iter)_(\d+)\.pth', file.name)


def _epoch_length(checkpoint: Path, meta: dict) -> float | None:
    """Iterations an epoch, where the checkpoint is from the end of one."""
    if checkpoint.name.startswith('epoch_') and meta.get('epoch') and meta.get('iter'):
        return meta['iter'] / meta['epoch']
    return None


def _read_curves(logs: list[Path], epoch_length: float | None) -> dict[str, Curve]:
    points: dict[str, dict[int, float]] = {}
    by_iteration, longest = set(), 1
    for log in logs:
        lines = list(_lines(log))
        if any(line.get('epoch') == 1 for line in lines):
            points.clear()  # A run from the start, not a resumed one.
        new: dict[str, dict[int, float]] = {}
        for line in lines:
            if 'iter' in line:
                by_iteration.update(line)
                longest = max(longest, math.ceil(line['iter'] / max(line.get('epoch', 1), 1)))
            for name, value in line.items():
                if name not in COUNTERS and isinstance(value, (int, float)):
                    new.setdefault(name, {})[line['step']] = value
        for name, values in new.items():
            first = min(values)
            kept = {step: old for step, old in points.get(name, {}).items() if step < first}
            points[name] = kept | values
    length = epoch_length or longest
    return {
        name: _curve(values, length if name in by_iteration or name.startswith(BY_ITERATION) else 1)
        for name, values in points.items()
    }


def _curve(points: dict[int, float], length: float) -> Curve:
    steps = sorted(points)
    return Curve([step / length for step in steps], [points[step] for step in steps])


def _lines(log: Path) -> Iterator[dict]:
    for text in log.read_text().splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue  # Cut short when the run was stopped.
        if 'step' in line:
            yield line
