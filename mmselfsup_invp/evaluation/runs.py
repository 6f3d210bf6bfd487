"""Read the work folder of a training run: checkpoint, config and logged metrics."""

import json
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from mmengine.config import Config
from torch import Tensor

from ..checkpoint_files import latest_checkpoint
from .checkpoints import read_checkpoint, run_config

LOGS = '*/vis_data/scalars.json'
# Metrics that hooks log with the number of iterations as the step.
BY_ITERATION = ('sela/',)
COUNTERS = ('epoch', 'iter', 'step')
Points = dict[int, float]


@dataclass(frozen=True)
class Curve:
    """A logged metric over the run: the epochs done, ascending, and the values at these times."""

    epoch: list[float]
    value: list[float]


@dataclass(frozen=True)
class TrainingRun:
    """A run of ``tools/train.py``, from :func:`read_run`.

    Attributes:
        path (Path): The work folder.
        checkpoint (Path): The checkpoint that was read.
        state (dict[str, Tensor]): Its weights and buffers, on the CPU.
        meta (dict): Its notes by MMEngine: ``epoch``, ``iter``, ``seed``, ``time``, versions.
        config (Config): The config of the run.
        starts (list[str]): When it was started and resumed, ``YYYYMMDD_HHMMSS``.
        curves (dict[str, Curve]): Logged metrics by name.
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

    A resumed run has a log for every start. Steps that were trained again after a resumption
    appear once, with the values of the last time.

    Args:
        path (str | Path): The work folder.
        checkpoint (str | Path, optional): Checkpoint to read. Defaults to None, the latest; see
            :func:`latest_checkpoint`.

    Returns:
        TrainingRun: The contents of the folder.

    Raises:
        FileNotFoundError: If the folder, a checkpoint or a log is missing.
        ValueError: If the checkpoint cannot be read, or holds no config of a model.

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
    config, meta = run_config(file, content), content['meta']
    if not isinstance(config.get('model'), dict) or 'type' not in config.model:
        raise ValueError(f'The config in {file} has no model.type. Give another checkpoint.')
    meta.pop('cfg')
    # Only at the end of an epoch the two counts give the length of an epoch.
    whole = file.name.startswith('epoch_') and meta.get('epoch') and meta.get('iter')
    return TrainingRun(
        path=path,
        checkpoint=file,
        state=content['state_dict'],
        meta=meta,
        config=config,
        starts=[log.parents[1].name for log in logs],
        curves=_read_curves(logs, meta['iter'] / meta['epoch'] if whole else None),
    )


def separate_logs(config: Config, name: str) -> None:
    """Give a run a name that no other run of this process has.

    MMEngine keeps loggers and visualisers by name: a second run of the same name would write its
    metrics into the folder of the first.
    """
    config.experiment_name = f'{name}_{uuid4().hex[:8]}'
    if config.get('visualizer'):
        config.visualizer.name = config.experiment_name
        config.visualizer.setdefault('vis_backends', [dict(type='LocalVisBackend')])


def _read_curves(logs: list[Path], epoch_length: float | None) -> dict[str, Curve]:
    """Curves of all logs, with steps in epochs of so many iterations; None to estimate that."""
    points: dict[str, Points] = {}
    by_iteration: set[str] = set()
    longest = 1
    earliest = math.inf
    for log in logs:
        lines = _lines(log)
        start = min((line['iter'] for line in lines if 'iter' in line), default=math.inf)
        # A run that was resumed within epoch 1 goes on behind the first step of its former log.
        if start <= earliest and any(line.get('epoch') == 1 for line in lines):
            points.clear()  # The run was started anew.
        earliest = min(start, earliest)
        new: dict[str, Points] = defaultdict(dict)
        for line in lines:
            if 'iter' in line:
                by_iteration.update(line)
                longest = max(longest, math.ceil(line['iter'] / max(line.get('epoch', 1), 1)))
            for name, value in line.items():
                if name not in COUNTERS and isinstance(value, (int, float)):
                    new[name][line['step']] = value
        for name, values in new.items():
            first = min(values)
            former = points.get(name, {}).items()
            points[name] = {step: value for step, value in former if step < first} | values
    return {
        name: _curve(values, epoch_length or longest)
        if name in by_iteration or name.startswith(BY_ITERATION)
        else _curve(values, 1)
        for name, values in points.items()
    }


def _curve(points: Points, length: float) -> Curve:
    steps = sorted(points)
    return Curve([step / length for step in steps], [points[step] for step in steps])


def _lines(log: Path) -> list[dict]:
    lines = []
    for text in log.read_text().splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:  # Cut off when the run was stopped.
            continue
        if 'step' in line:
            lines.append(line)
    return lines
