"""Examine a run before it starts: ``tools/doctor.py`` and ``tools/train.py --dry-run``."""

import copy
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner

from .. import compat
from ..config import dicts_in
from ..config_checks import check_config
from ..datasets.inspection import Inspection, inspect_images
from ..engine.console import ConciseRunner
from ..engine.hooks.common import innermost_dataset, unwrap
from ..engine.memory_estimate import available_memory, size
from ..options import options_of
from ..version import __version__
from .errors import CONFIG_ERRORS, USER_ERRORS, message_of

# Time limits in seconds, for the image files and for the iterations.
FILES, ITERATIONS = 5.0, 8.0
# Timed iterations, after one to warm up.
TIMED = 3
# Images in a batch on a CPU, where the time grows with their number.
CPU_BATCH = 8

Level = Literal['ok', 'note', 'error']


@dataclass(frozen=True)
class Finding:
    """A line of the page: what was examined, and the result."""

    level: Level
    subject: str
    text: str

    def __str__(self) -> str:
        return f'{self.level:<6}{self.subject:<12}{self.text}'


class _Enough(Exception):
    """Ends the run after the timed iterations."""


class _Timer(Hook):
    """Measures loading and training of a few batches, then ends the run."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.seconds: list[tuple[float, float]] = []

    def before_train_epoch(self, runner: Runner) -> None:
        self._end = self._start = time.perf_counter()

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        self._loaded = time.perf_counter()

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds.append((self._loaded - self._end, now - self._loaded))
        self._end = now
        if len(self.seconds) > TIMED or now - self._start > ITERATIONS:
            raise _Enough


def examine(cfg: Config) -> Iterator[Finding]:
    """Examine the config, the images, the memory, the disk and a few iterations of a run.

    Nothing is written to the work folder. What one part finds does not keep the others from being
    examined, except that nothing can be timed without images.

    Args:
        cfg (Config): Config of the run, with ``work_dir``.

    Yields:
        Finding: In the order of the page.
    """
    yield Finding('ok', 'versions', _versions())
    parts: list[Callable[[Config], Iterator[Finding]]] = [_options, _images, _trial]
    for part in parts:
        try:
            yield from part(cfg)
        except (*USER_ERRORS, *CONFIG_ERRORS, RuntimeError) as error:
            yield Finding('error', part.__name__.strip('_'), message_of(error))
            return


def report(cfg: Config) -> int:
    """Print the findings.

    Returns:
        int: Exit code: 1 if there is an error, else 0.
    """
    failed = False
    for finding in examine(cfg):
        failed |= finding.level == 'error'
        print(finding, flush=True)
    print('The run cannot start.' if failed else 'The run can start.')
    return int(failed)


def _versions() -> str:
    packages = {name: compat.installed_version(name) for name in ('torch', 'mmengine', 'mmcv')}
    found = ', '.join(f'{name} {number}' for name, number in packages.items())
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'
    return f'mmselfsup_invp {__version__}, {found}; {device}'


def _options(cfg: Config) -> Iterator[Finding]:
    check_config(cfg)
    batch = cfg.train_dataloader.batch_size
    yield Finding(
        'ok', 'config', f'{cfg.model.type}, {cfg.train_cfg.max_epochs} epochs, batches of {batch}'
    )


def _images(cfg: Config) -> Iterator[Finding]:
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        dataset = DATASETS.build(copy.deepcopy(cfg.train_dataloader.dataset))
    source = innermost_dataset(dataset)
    paths = [source.get_data_info(row)['img_path'] for row in range(len(source))]
    found = inspect_images(paths, FILES)
    checked = 'all' if found.num_checked == len(paths) else f'{found.num_checked:,} of them'
    sides = found.shorter_sides or [0]
    yield Finding(
        'ok' if found.shorter_sides else 'error',
        'images',
        f'{len(paths):,}, {checked} decoded; shorter side {min(sides)} to {max(sides)} pixels, '
        f'median {median(sides):.0f}; {found.rotated} turned upright by their EXIF orientation',
    )
    yield from _file_findings(found, _crop_size(cfg), getattr(source, 'broken', 'raise'))
    for row in {0, len(dataset) // 2, len(dataset) - 1}:
        sample = int(dataset[row]['data_samples'].sample_idx.value)
        if sample != row and not getattr(source, 'skipped', [False] * len(dataset))[row]:
            yield Finding('error', 'ids', f'image {row} has sample_idx {sample}')
            return
    yield Finding('ok', 'ids', f'sample_idx is the position of the image, 0 to {len(dataset) - 1}')


def _file_findings(found: Inspection, crop: int | None, broken: str) -> Iterator[Finding]:
    if found.unreadable:
        yield Finding(
            'note' if broken == 'skip' else 'error',
            'unreadable',
            f'{len(found.unreadable)} images; broken={broken!r} in the data set. '
            + found.unreadable[0],
        )
    if found.duplicates:
        one, other = found.duplicates[0]
        yield Finding(
            'note', 'duplicates', f'{len(found.duplicates)} files, such as {one} of {other}'
        )
    tiny = sum(side < (crop or 0) for side in found.shorter_sides)
    if tiny:
        yield Finding('note', 'small', f'{tiny} images are smaller than the views of {crop} pixels')


def _crop_size(cfg: Config) -> int | None:
    """Pixels of the views that ``RandomResizedCrop`` cuts out, if the pipeline has one."""
    for part in dicts_in(cfg.train_dataloader.dataset.to_dict()):
        if part.get('type') == 'RandomResizedCrop':
            return part['size'] if isinstance(part['size'], int) else max(part['size'])
    return None


def _trial(cfg: Config) -> Iterator[Finding]:
    """Memory, disk and time, from a run in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        runner = ConciseRunner.from_cfg(trial_config(cfg, folder))
        yield _disk(runner, cfg)
        if reason := _slow_start(cfg):
            yield Finding('note', 'time', reason)
            return
        timer = _Timer()
        runner.register_hook(timer)
        with suppress(_Enough):
            runner.train()
        health = next((one for one in runner.hooks if hasattr(one, 'estimate')), None)
        if health is not None:
            free = available_memory(next(runner.model.parameters()).device)
            yield Finding('ok', 'memory', f'{health.estimate} + activations; {size(free)} free')
        yield _time(runner, cfg, timer.seconds)


def trial_config(cfg: Config, folder: str) -> Config:
    """Config of a run of a few iterations that leaves nothing behind."""
    trial = copy.deepcopy(cfg)
    trial.work_dir = folder
    trial.resume, trial.load_from = False, None
    trial.log_level = 'ERROR'
    trial.train_dataloader.update(num_workers=0, persistent_workers=False)
    trial.train_dataloader.pop('prefetch_factor', None)
    if not torch.cuda.is_available():
        trial.train_dataloader.batch_size = min(trial.train_dataloader.batch_size, CPU_BATCH)
    trial.visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
    return trial


def _slow_start(cfg: Config) -> str | None:
    """Why the first iterations are not representative, or None."""
    for hook in (cfg.get('default_hooks') or {}).values():
        if hook and ('extract_dataloader' in hook or hook.get('type') == 'SelfLabelHook'):
            return f'not measured: {hook["type"]} first extracts the features of all images'
    return None


def _disk(runner: Runner, cfg: Config) -> Finding:
    model = unwrap(runner.model)
    state = sum(one.numel() * one.element_size() for one in model.state_dict().values())
    momentum = sum(4 * one.numel() for one in model.parameters() if one.requires_grad)
    options: dict[str, Any] = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    kept = options.get('max_keep_ckpts', -1)
    if kept < 0:
        kept = cfg.train_cfg.max_epochs // max(options.get('interval', 1), 1)
    needed = (state + momentum) * (kept + 1)
    folder = next(
        one
        for one in (Path(cfg.work_dir).resolve(), *Path(cfg.work_dir).resolve().parents)
        if one.exists()
    )
    free = shutil.disk_usage(folder).free
    text = (
        f'{kept + 1} checkpoints of {size(state + momentum)} take {size(needed)}, {size(free)} are '
        f'free in {cfg.work_dir}'
    )
    if needed > free:
        return Finding('error', 'disk', f'{text}. Set default_hooks.checkpoint.max_keep_ckpts=1')
    return Finding('ok', 'disk', text)


def _time(runner: Runner, cfg: Config, seconds: list[tuple[float, float]]) -> Finding:
    """Time of an epoch from the time of an image: loading by the workers, and training."""
    timed = seconds[1:] or seconds
    batch = runner.train_dataloader.batch_sampler.batch_size
    loading, training = (median(part) / batch for part in zip(*timed, strict=True))
    workers = cfg.train_dataloader.get('num_workers', 0)
    image = max(loading / workers, training) if workers else loading + training
    epoch = image * len(runner.train_dataloader.dataset)
    text = (
        f'{1 / image:.3g} images/s: {epoch:,.0f} s an epoch, '
        f'{epoch * cfg.train_cfg.max_epochs / 3600:.3g} h for {cfg.train_cfg.max_epochs} epochs '
        f'({1000 * loading:.0f} ms to load an image, {1000 * training:.0f} ms to train on it)'
    )
    if workers and loading / workers > training:
        return Finding('note', 'time', f'{text}. Loading limits: smaller copies of the images')
    return Finding('ok', 'time', text)
