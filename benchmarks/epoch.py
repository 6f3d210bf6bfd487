"""Measure where the time of an epoch goes: waiting for data, network, objective, hooks, and so on.

Example:
    python benchmarks/epoch.py configs/invp/invp_resnet18-slim_1xb32-coslr-50e_digits.py --iters 40

A run of the config is started as usual and timed for some iterations of its first epoch. Sections
exclude what is called inside them, so that they add up to the whole. A GPU is synchronised at every
edge of a section, which separates the sections but prevents that they overlap. The CPU time is that
of this process, without the workers, and does not depend on other load.

``--whole`` measures images per second without sections, and how busy the GPU is (by nvidia-smi).
``--jpegs N`` replaces the images of the config by N images of the size of ImageNet's.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT), str(ROOT.parent)]

import common  # noqa: E402
import jpegs  # noqa: E402

import mmselfsup_invp  # noqa: E402, F401  (registers)

REST = 'rest of the loop'
AFTERWARDS = 'after the last step'


class Stopwatch:
    """Wall and CPU seconds by section; a section excludes those inside it.

    Args:
        sections (bool): Whether there are sections; if not, all time is that of the loop.
    """

    def __init__(self, sections: bool = True) -> None:
        self.sections = sections
        self.gpu = GPUUtilization()
        self.seconds: dict[str, float] = defaultdict(float)
        self.cpu: dict[str, float] = defaultdict(float)
        self._open = [REST]
        self.reset()

    def reset(self) -> None:
        """Discard what was measured so far."""
        self.gpu.start()
        self.seconds.clear()
        self.cpu.clear()
        self._edge = self._now()

    def stop(self) -> None:
        """End the measurement."""
        self._book()
        self.gpu.stop()
        self._open = [AFTERWARDS]

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Add the time inside to that of a section."""
        if not self.sections:
            yield
            return
        self._book()
        self._open.append(name)
        try:
            yield
        finally:
            self._book()
            self._open.pop()

    def watch(self, owner: Any, method: str, name: str) -> None:
        """Time every call of an object's method in a section."""
        call = getattr(owner, method)

        def watched(*args, **kwargs):
            with self.section(name):
                return call(*args, **kwargs)

        setattr(owner, method, watched)

    def _book(self) -> None:
        now, section = self._now(), self._open[-1]
        if section != AFTERWARDS:
            self.seconds[section] += now[0] - self._edge[0]
            self.cpu[section] += now[1] - self._edge[1]
        self._edge = now

    @staticmethod
    def _now() -> tuple[float, float]:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()


class GPUUtilization:
    """Percent of the time in which the GPU runs a kernel, by nvidia-smi; None without it."""

    QUERY = ('--query-gpu=utilization.gpu', '--format=csv,noheader,nounits', '--loop-ms=100')

    def __init__(self) -> None:
        self.percent: float | None = None
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        """Begin to sample, at first or again."""
        self.stop()
        if torch.cuda.is_available() and (command := shutil.which('nvidia-smi')):
            gpu = torch.cuda.get_device_properties(torch.cuda.current_device()).uuid
            self._process = subprocess.Popen(
                [command, f'--id=GPU-{gpu}', *self.QUERY], stdout=subprocess.PIPE, text=True
            )

    def stop(self) -> None:
        """Take the mean of the samples."""
        if self._process is not None:
            self._process.terminate()
            samples = [line for line in self._process.communicate()[0].split() if line.isdigit()]
            self.percent = statistics.fmean(map(int, samples)) if samples else None
            self._process = None


class WatchedLoader:
    """A loader whose time is measured; it ends after some batches."""

    def __init__(self, loader: Any, watch: Stopwatch, warmup: int, iters: int) -> None:
        self._loader, self._watch = loader, watch
        self._warmup, self._iters = warmup, iters

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __len__(self) -> int:
        return min(len(self._loader), self._warmup + self._iters)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self._loader)
        for number in range(len(self)):
            if number == self._warmup:
                self._watch.reset()
            with self._watch.section('data: wait for the loader'):
                batch = next(batches)
            yield batch
        self._watch.stop()


def instrument(runner: Runner, watch: Stopwatch) -> None:
    """Time the parts of a step in sections."""
    model, optim = runner.model, runner.optim_wrapper
    warnings.filterwarnings('ignore', message='Seems like `optimizer.step')
    parts: list[tuple[Any, str, str]] = [
        (model.data_preprocessor, 'forward', 'data: preprocessor'),
        (model.backbone, 'forward', 'network: backbone and neck'),
        (model.neck, 'forward', 'network: backbone and neck'),
        (model, 'loss', 'objective: losses'),
        (model, 'parse_losses', 'mmengine: sum of the losses'),
        (optim, 'backward', 'backward, all'),
        (optim, 'step', 'optimiser'),
        (optim, 'zero_grad', 'optimiser'),
    ]
    if hasattr(model, 'key_encoder'):
        parts.append((model.key_encoder, 'embed', 'network: momentum encoder'))
    for owner, method, name in parts:
        watch.watch(owner, method, name)
    for hook in runner.hooks:
        kind = type(hook).__name__
        whose = 'hook' if type(hook).__module__.startswith('mmselfsup_invp') else 'mmengine'
        for point in ('before_train_iter', 'after_train_iter'):
            watch.watch(hook, point, f'{whose}: {kind}')


def quiet_config(args: argparse.Namespace, work_dir: str) -> Config:
    """The config for one epoch without evaluation and checkpoints."""
    config = Config.fromfile(args.config)
    config.merge_from_dict(args.cfg_options or {})
    config.work_dir = work_dir
    config.train_cfg.max_epochs = 1
    config.default_hooks.checkpoint = None
    config.default_hooks.pop('knn', None)
    if args.jpegs:
        config.train_dataloader.dataset.update(
            jpegs.write_jpegs(Path(work_dir) / 'images', args.jpegs)
        )
    return config


def run(args: argparse.Namespace, work_dir: str) -> tuple[Stopwatch, Runner]:
    """Train and measure."""
    runner = Runner.from_cfg(quiet_config(args, work_dir))
    watch = Stopwatch(sections=not args.whole)
    on_start(runner, lambda: start(runner, watch, args))
    runner.train()
    return watch, runner


def on_start(runner: Runner, callback: Callable[[], None]) -> None:
    """Call back when all is built and before the first epoch."""
    loop_hook = runner.call_hook

    def call_hook(point: str, **kwargs):
        loop_hook(point, **kwargs)
        if point == 'before_train':
            callback()

    runner.call_hook = call_hook


def start(runner: Runner, watch: Stopwatch, args: argparse.Namespace) -> None:
    """Let the next epoch be measured."""
    instrument(runner, watch)
    loop = runner.train_loop
    loop.dataloader = WatchedLoader(loop.dataloader, watch, args.warmup, args.iters)


def report(watch: Stopwatch, runner: Runner, args: argparse.Namespace) -> None:
    """Print the mean time of a step by section, and images per second."""
    loader = runner.train_dataloader
    steps = len(loader) - loader._warmup
    total, work = (sum(clock.values()) for clock in (watch.seconds, watch.cpu))
    title = Path(args.config).stem
    table = Table('section', 'ms a step', 'share', 'CPU ms a step', 'share', title=title)

    def add(name: str, seconds: float, cpu: float) -> None:
        cells = ((seconds, total), (cpu, work))
        shown = [text for a, b in cells for text in (f'{a / steps * 1e3:.2f}', f'{a / b:.1%}')]
        table.add_row(name, *shown)

    for name in sorted(watch.cpu, key=watch.cpu.get, reverse=True):
        add(name, watch.seconds[name], watch.cpu[name])
    table.add_section()
    add('all', total, work)
    console = Console(width=100)
    console.print(table)
    rate, busy = steps * loader.batch_sampler.batch_size / total, watch.gpu.percent
    gpu = '' if busy is None else f'GPU busy {busy:.0f} %, '
    console.print(f'{steps} steps, {rate:.0f} images/s, {gpu}torch {torch.__version__}.')
    common.append_json(args.json, dict(title=title, images_per_second=rate, gpu_busy=busy))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='path of the config')
    parser.add_argument('--iters', type=int, default=40, help='timed iterations')
    parser.add_argument('--warmup', type=int, default=5, help='iterations before them')
    parser.add_argument('--threads', type=int, help='CPU threads of PyTorch')
    parser.add_argument('--whole', action='store_true', help='measure without sections')
    parser.add_argument('--jpegs', type=int, help='images to write and read in place of the config')
    common.add_json_argument(parser)
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='as in tools/train.py')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as work_dir:  # For the log of the run.
        watch, runner = run(args, work_dir)
        report(watch, runner, args)


if __name__ == '__main__':
    main()
