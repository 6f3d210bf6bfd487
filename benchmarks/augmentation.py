"""Time what makes the views of a batch: the loader and the data preprocessor of several configs.

Example:
    python benchmarks/augmentation.py \
        configs/invp/invp_resnet18_1xb128-coslr-800e_cifar10.py \
        configs/invp/invp-batchaug_resnet18_1xb128-coslr-800e_cifar10.py --workers 1

The configs take turns, each with the given number of workers; nothing is trained. Images per second
are those of the wall clock. CPU time is that of this process, where the training would be at work
too; with ``--workers 0`` it is all that a view costs.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table

from mmselfsup_invp.compat.host import MODELS

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT.parent))

import mmselfsup_invp  # noqa: E402, F401  (registers)


def build(path: str, args: argparse.Namespace) -> Callable[[], Iterator[int]]:
    """A function that makes the views of a few batches, and gives the size of each batch."""
    config = Config.fromfile(path)
    loader = config.train_dataloader
    loader.update(num_workers=args.workers, persistent_workers=args.workers > 0)
    if args.batch:
        loader.batch_size = args.batch
    with DefaultScope.overwrite_default_scope(config.default_scope):
        loader = Runner.build_dataloader(loader, seed=0)
        own = dict(config.model.data_preprocessor)
        own.setdefault('type', 'SelfSupDataPreprocessor')
        preprocessor = MODELS.build(own).to(args.device)

    def batches() -> Iterator[int]:
        waiting = iter(loader)
        for _ in range(args.iters):
            views, _ = preprocessor(next(waiting), True)
            yield len(views[0])

    return batches


def measure(batches: Callable[[], Iterator[int]], device: str) -> tuple[float, float]:
    """Images per second, and CPU milliseconds of an image, without the first batch."""
    seen = batches()
    next(seen)
    wall, cpu, images = time.perf_counter(), time.process_time(), 0
    for count in seen:
        images += count
    if device != 'cpu':
        torch.cuda.synchronize(device)
    return images / (time.perf_counter() - wall), (time.process_time() - cpu) / images * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='+', help='paths of the configs; the first is the measure')
    parser.add_argument('--workers', type=int, default=1, help='workers of each loader')
    parser.add_argument('--batch', type=int, help='images of a batch; the config if not given')
    parser.add_argument('--iters', type=int, default=20, help='batches of each turn')
    parser.add_argument('--repeats', type=int, default=5, help='turns of each')
    parser.add_argument('--device', default='cpu', help='where the preprocessor works')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads of PyTorch')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    paths = {Path(path).stem: build(path, args) for path in args.configs}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in paths}
    for _ in range(args.repeats):
        for name, batches in paths.items():
            found[name].append(measure(batches, args.device))
    table = Table('config', 'images/s', 'ratio', 'lowest', 'highest', 'CPU ms an image')
    first = statistics.median(rate for rate, _ in next(iter(found.values())))
    for name, pairs in found.items():
        rates, costs = zip(*pairs, strict=True)
        rate = statistics.median(rates)
        table.add_row(
            name,
            f'{rate:.0f}',
            f'{rate / first:.2f}',
            f'{min(rates):.0f}',
            f'{max(rates):.0f}',
            f'{statistics.median(costs):.3f}',
        )
    console = Console(width=120)
    console.print(table)
    console.print(f'{args.workers} workers, {args.device}, torch {torch.__version__}.')


if __name__ == '__main__':
    main()
