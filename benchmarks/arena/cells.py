"""One cell of the grid: a config with a seed, trained by MMEngine's runner and measured."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from uuid import uuid4

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner, load_checkpoint

from .measures import measure

CONFIGS = Path(__file__).parent / 'configs'
ROOT = Path(__file__).parents[2]
# Share of the iterations in which the learning rate rises to its value.
WARM_UP = 0.05
# Evaluations by kNN during a run.
NUM_EVALUATIONS = 6


@dataclass(frozen=True)
class Cell:
    """What is trained.

    Attributes:
        name (str): Name of the row in the table.
        config (str): A file of ``benchmarks/arena/configs``, without its extension.
        seed (int): Seed of the run.
        budget (int): Network passes for each training image, forward 1 and backward 2.
        options (dict): Values in place of the config's, by dotted key.
        prefix (dict, optional): ``name``, ``config``, ``options`` and ``epoch`` of a cell of the
            same seed and budget that is equal up to the end of that epoch; where it was trained
            here, this one starts from its checkpoint.
    """

    name: str
    config: str
    seed: int
    budget: int
    options: dict = field(default_factory=dict)
    prefix: dict | None = None

    @property
    def key(self) -> str:
        """Name of the work folder: equal for equal cells."""
        text = json.dumps([self.config, self.options, self.seed, self.budget], sort_keys=True)
        return f'{self.name}-s{self.seed}-{hashlib.sha256(text.encode()).hexdigest()[:8]}'

    @property
    def shared(self) -> 'Cell':
        """The cell of its prefix."""
        prefix = self.prefix
        options = prefix.get('options', {})
        return Cell(prefix['name'], prefix['config'], self.seed, self.budget, options)


class CostHook(Hook):
    """Adds up the time of training over all resumptions; evaluation is not counted.

    CPU time, which other work on the machine does not change, or elapsed time on a GPU.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.seconds = 0.0
        self._clock = time.perf_counter if torch.cuda.is_available() else time.process_time

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Start the clock; loading a batch from memory takes next to nothing."""
        self._start = self._clock()

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Stop it."""
        self.seconds += self._clock() - self._start

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note what was spent."""
        checkpoint['seconds'] = self.seconds

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Go on from there."""
        self.seconds = checkpoint.get('seconds', 0.0)


def build_config(cell: Cell, data: Path, work_dir: Path) -> Config:
    """The config of a cell: its options, seed and images, and the epochs its budget allows."""
    config = Config.fromfile(CONFIGS / f'{cell.config}.py')
    config.merge_from_dict(cell.options)
    config.work_dir = str(work_dir)
    # MMEngine keeps loggers and visualizers by these names.
    config.experiment_name = config.visualizer.name = uuid4().hex
    config.randomness = dict(seed=cell.seed)
    config.resume = True
    hooks = config.default_hooks
    loaders = [
        config.train_dataloader,
        hooks.knn.query_dataloader,
        hooks.knn.gallery_dataloader,
    ]
    if 'clusters' in hooks:
        loaders.append(hooks.clusters.extract_dataloader)
    for loader in loaders:
        loader.dataset.path = str(data / Path(loader.dataset.path).name)
    epochs = cell.budget // config.network_passes
    if not epochs:
        raise ValueError(
            f'{cell.name} has a budget of {cell.budget} network passes, and an epoch takes '
            f'{config.network_passes}. Raise the budget in the grid.'
        )
    config.train_cfg.max_epochs = epochs
    hooks.knn.interval = max(epochs // NUM_EVALUATIONS, 1)
    if 'propagation_start' in config:
        hooks.memory.ramp_epochs = round(config.propagation_start * epochs)
    return config


def set_schedule(config: Config, num_images: int) -> None:
    """Linear warm-up, then a cosine to zero, by iteration."""
    total = config.train_cfg.max_epochs * (num_images // config.train_dataloader.batch_size)
    warm = max(round(WARM_UP * total), 1)
    config.param_scheduler = [
        dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warm),
        dict(type='CosineAnnealingLR', T_max=total - warm, by_epoch=False, begin=warm, end=total),
    ]


def run_cell(cell: Cell, data: Path, work_dir: Path, results: Path) -> bool:
    """Train a cell, from its last checkpoint if there is one, and append its result.

    Args:
        cell (Cell): What to train.
        data (Path): Folder of the splits.
        work_dir (Path): Folder of the work folders.
        results (Path): File to append to, one JSON object a line.

    Returns:
        bool: False if another process is training this cell.
    """
    folder = work_dir / cell.key
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / 'lock', 'w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if cell.key in finished(results):
            return True
        _start_from_prefix(cell, work_dir, folder)
        append(results, _train_and_measure(cell, data, folder))
    return True


def _start_from_prefix(cell: Cell, work_dir: Path, folder: Path) -> None:
    """Begin with the checkpoint of the run that shares the first epochs, if it is here."""
    last = folder / 'last_checkpoint'
    if cell.prefix is None or last.exists():
        return
    source = work_dir / cell.shared.key / f'epoch_{cell.prefix["epoch"]}.pth'
    if source.exists():
        shutil.copy(source, folder / source.name)
        last.write_text(str(folder / source.name))


def _train_and_measure(cell: Cell, data: Path, folder: Path) -> dict:
    torch.set_num_threads(1)
    config = build_config(cell, data, folder)
    cost = CostHook()
    with np.load(data / 'train.npz') as images:
        set_schedule(config, len(images['label']))
    runner = Runner.from_cfg(config)
    runner.register_hook(cost)
    runner.train()
    figures = measure(runner.model, config, data, 'val')
    return dict(
        key=cell.key,
        **asdict(cell),
        revision=revision(),
        date=time.strftime('%Y-%m-%d'),
        epochs=config.train_cfg.max_epochs,
        network_passes=config.network_passes * config.train_cfg.max_epochs,
        seconds=round(cost.seconds, 1),
        figures=figures,
        curves=read_curves(folder),
    )


def measure_cell(cell: Cell, data: Path, work_dir: Path, split: str) -> dict[str, float]:
    """Measure the last checkpoint of a finished cell.

    Args:
        cell (Cell): What was trained.
        data (Path): Folder of the splits.
        work_dir (Path): Folder of the work folders.
        split (str): Split that the queries are from, ``val`` or ``test``.

    Returns:
        dict[str, float]: See :func:`measure`.

    Raises:
        FileNotFoundError: If the cell was not trained here.
    """
    folder = work_dir / cell.key
    if not (folder / 'last_checkpoint').exists():
        raise FileNotFoundError(
            f'{folder} holds no checkpoint: train the cell here first, by the command run.'
        )
    config = build_config(cell, data, folder)
    runner = Runner.from_cfg(config)
    load_checkpoint(runner.model, (folder / 'last_checkpoint').read_text().strip(), 'cpu')
    return measure(runner.model, config, data, split)


def finished(results: Path) -> set[str]:
    """Keys of the cells that have a result."""
    return {line['key'] for line in read_results(results)}


def read_results(results: Path) -> list[dict]:
    """The results so far; a line that was cut off by a crash does not count."""
    if not results.exists():
        return []
    found = []
    for line in results.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def append(results: Path, result: dict) -> None:
    """Append a result as one line, on disk when this returns."""
    results.parent.mkdir(parents=True, exist_ok=True)
    with open(results, 'a+') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        end = file.seek(0, os.SEEK_END)
        file.seek(max(end - 1, 0))
        if end and file.read(1) != '\n':  # Of a line that was cut off.
            file.write('\n')
        file.write(json.dumps(result) + '\n')
        file.flush()
        os.fsync(file.fileno())


def read_curves(folder: Path) -> dict[str, dict[int, float]]:
    """Logged kNN accuracies and graph figures by epoch; a later run of an epoch counts."""
    curves: dict[str, dict[int, float]] = {}
    for log in sorted(folder.glob('*/vis_data/scalars.json')):
        for line in log.read_text().splitlines():
            values = json.loads(line)
            for name, value in values.items():
                if name.startswith(('knn/', 'graph/')):
                    curves.setdefault(name, {})[values['step']] = round(value, 4)
    return curves


def revision() -> str:
    """Commit of the code, with a plus sign if files have changed since."""

    def git(*arguments: str) -> str:
        command = ['git', '-C', str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    changed = git('status', '--porcelain', '--untracked-files=no', 'mmselfsup_invp', 'benchmarks')
    return git('rev-parse', '--short', 'HEAD') + ('+' if changed else '')
