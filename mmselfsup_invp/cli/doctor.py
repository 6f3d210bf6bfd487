"""Examine a run before it starts: ``tools/doctor.py`` and ``tools/train.py --dry-run``."""

import copy
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner

from .. import compat
from ..config import dicts_in
from ..config_checks import check_config
from ..datasets import num_images
from ..datasets.inspection import Inspection, inspect_images
from ..engine.console import ConciseRunner
from ..engine.hooks.common import Batch, innermost_dataset, unwrap
from ..engine.hooks.run_health_hook import memory_of
from ..engine.loops import no_batch
from ..engine.memory_estimate import rows_of, size
from ..models.memories import memories_of
from ..structures import sample_ids
from ..version import __version__
from .doctor_folder import existing_folder, kept_checkpoints, require_work_folder
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

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Batch = None) -> None:
        self._loaded = time.perf_counter()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Batch = None, outputs: Batch = None
    ) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds.append((self._loaded - self._end, now - self._loaded))
        self._end = now
        if len(self.seconds) > TIMED or now - self._start > ITERATIONS:
            raise _Enough


class Examination:
    """The config, the folder, the images, the memory, the disk and a few iterations of a run.

    Nothing is left in the work folder. A config that does not train by epochs raises
    ``ValueError``.
    """

    def __init__(self, cfg: Config) -> None:
        if not cfg.get('train_dataloader') or 'max_epochs' not in (cfg.get('train_cfg') or {}):
            raise ValueError(
                'Only training by epochs is examined: the config has no train_dataloader or no '
                'train_cfg.max_epochs.'
            )
        self.cfg = cfg
        self.batch_size = cfg.train_dataloader.batch_size
        self.epochs = cfg.train_cfg.max_epochs

    def findings(self) -> Iterator[Finding]:
        """Examine one part after the other; an error ends the examination."""
        yield Finding('ok', 'versions', _versions())
        for subject, examine in (
            ('config', self.examine_options),
            ('folder', self.examine_folder),
            ('images', self.examine_images),
            ('start', self.examine_start),
        ):
            try:
                yield from examine()
            except (*USER_ERRORS, *CONFIG_ERRORS, RuntimeError) as error:
                yield Finding('error', subject, message_of(error))
                return

    def examine_options(self) -> Iterator[Finding]:
        """Types, ranges and names of all options."""
        check_config(self.cfg)
        yield Finding(
            'ok',
            'config',
            f'{self.cfg.model.type}, {self.epochs} epochs, batches of {self.batch_size}',
        )

    def examine_folder(self) -> Iterator[Finding]:
        """The work folder, by the checks of training, which are errors: there is no finding."""
        require_work_folder(self.cfg)
        return iter(())

    def examine_images(self) -> Iterator[Finding]:
        """Image files and ids."""
        with DefaultScope.overwrite_default_scope(self.cfg.get('default_scope')):
            self.dataset = DATASETS.build(copy.deepcopy(self.cfg.train_dataloader.dataset))
        source = innermost_dataset(self.dataset)
        paths = [source.get_data_info(row)['img_path'] for row in range(len(source))]
        found = inspect_images(paths, FILES)
        yield from _file_findings(found, _crop_size(self.cfg), getattr(source, 'broken', 'raise'))
        num = num_images(self.dataset)
        for row in (0, num // 2, num - 1):
            sample = int(sample_ids([self.dataset[row]['data_samples']]))
            if sample != row and not (hasattr(source, 'skipped') and source.skipped[row]):
                yield Finding('error', 'ids', f'image {row} has sample_idx {sample}')
                return
        yield Finding('ok', 'ids', f'sample_idx is the position of an image, 0 to {num - 1}')
        if not self._batches():
            # Below, a CPU takes smaller batches than the run.
            raise ValueError(no_batch(len(self.dataset), self.batch_size))

    def _batches(self) -> int:
        """Batches of an epoch, on one process."""
        batches, rest = divmod(len(self.dataset), self.batch_size)
        drop = self.cfg.train_dataloader.get('drop_last', False)
        return batches + (rest > 0 and not drop)

    def examine_start(self) -> Iterator[Finding]:
        """Memory, disk and time, from a run in a temporary folder."""
        with tempfile.TemporaryDirectory() as folder:
            runner = ConciseRunner.from_cfg(trial_config(self.cfg, folder))
            yield self._memory(runner)
            yield self._disk(runner)
            if reason := _slow_start(self.cfg):
                yield Finding('note', 'time', reason)
                return
            timer = _Timer()
            runner.register_hook(timer)
            with suppress(_Enough):
                runner.train()
            yield self._time(timer.seconds, runner.train_dataloader.batch_sampler.batch_size)

    def _memory(self, runner: Runner) -> Finding:
        estimate, free = memory_of(runner, self.batch_size)
        estimate.without('network').require(free)
        return Finding('ok', 'memory', f'{estimate} + activations; {size(free)} free')

    def _disk(self, runner: Runner) -> Finding:
        model = unwrap(runner.model)
        state = sum(one.numel() * one.element_size() for one in model.state_dict().values())
        # Most memories are still empty; SGD keeps a momentum for each trained parameter.
        num = num_images(self.dataset)
        rows = sum(
            part.row_bytes * (rows_of(memory, num) - len(memory))
            for memory in memories_of(model)
            for _, part in memory.parts()
        )
        momentum = sum(4 * one.numel() for one in model.parameters() if one.requires_grad)
        saved = state + rows + momentum
        kept = kept_checkpoints(self.cfg, self._batches())
        free = shutil.disk_usage(existing_folder(Path(self.cfg.work_dir))).free
        text = f'{kept + 1} checkpoints of {size(saved)}, {size(free)} free in {self.cfg.work_dir}'
        if saved * (kept + 1) > free:
            advice = 'Set default_hooks.checkpoint.max_keep_ckpts=1 or another --work-dir'
            return Finding('error', 'disk', f'{text}. {advice}.')
        return Finding('ok', 'disk', text)

    def _time(self, seconds: list[tuple[float, float]], batch_size: int) -> Finding:
        """Time of an epoch, from that of loading an image and of training on it."""
        timed = seconds[1:] or seconds
        loading, training = (median(part) / batch_size for part in zip(*timed, strict=True))
        workers = self.cfg.train_dataloader.get('num_workers', 0)
        image = max(loading / workers, training) if workers else loading + training
        epoch = image * len(self.dataset)
        text = (
            f'{1 / image:.3g} images/s: {epoch:,.0f} s an epoch, '
            f'{epoch * self.epochs / 3600:.3g} h for {self.epochs} epochs '
            f'({1000 * loading:.0f} ms to load an image, {1000 * training:.0f} ms to train on it)'
        )
        if workers and loading / workers > training:
            return Finding('note', 'time', f'{text}. Loading limits: train on smaller copies')
        return Finding('ok', 'time', text)


def report(cfg: Config) -> int:
    """Print the findings and return the exit code: 1 if there is an error, else 0."""
    failed = False
    for finding in Examination(cfg).findings():
        failed |= finding.level == 'error'
        print(finding, flush=True)
    print('The run cannot start.' if failed else 'The run can start.')
    return int(failed)


def _versions() -> str:
    packages = {name: compat.installed_version(name) for name in ('torch', 'mmengine', 'mmcv')}
    found = ', '.join(f'{name} {number}' for name, number in packages.items())
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'
    return f'mmselfsup_invp {__version__}, {found}; {device}'


def _file_findings(found: Inspection, crop: int, broken: str) -> Iterator[Finding]:
    checked = 'all' if found.num_checked == found.num_images else f'{found.num_checked:,} of them'
    sides = found.shorter_sides or [0]
    yield Finding(
        'ok' if found.shorter_sides else 'error',
        'images',
        f'{found.num_images:,}, {checked} decoded; shorter side {min(sides)} to {max(sides)} '
        f'pixels, median {median(sides):.0f}; {found.rotated} turned upright by EXIF',
    )
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
    tiny = sum(side < crop for side in found.shorter_sides)
    if tiny:
        yield Finding('note', 'small', f'{tiny} images are smaller than the views of {crop} pixels')


def _crop_size(cfg: Config) -> int:
    """Pixels of the views that ``RandomResizedCrop`` cuts out, or 0."""
    for part in dicts_in(cfg.train_dataloader.dataset.to_dict()):
        if part.get('type') == 'RandomResizedCrop':
            return part['size'] if isinstance(part['size'], int) else max(part['size'])
    return 0


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
    for hook in (*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])):
        if hook and ('extract_dataloader' in hook or hook.get('type') == 'SelfLabelHook'):
            return f'not measured: {hook["type"]} first extracts the features of all images'
    return None
