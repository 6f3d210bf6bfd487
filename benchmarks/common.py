"""What the benchmarks share: formulations take turns, and each one's extra memory is weighed.

A formulation is a function without arguments that takes one step. ``build(args)`` makes a fresh set
of them by name; the last one is the yardstick of the others.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from mmselfsup_invp.ops.search import native

MIB = 2**20

Step = Callable[[], object]
Build = Callable[[argparse.Namespace], dict[str, Step]]
# Wall and CPU seconds of each timed step.
Seconds = list[tuple[float, float]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of every benchmark."""
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, help='CPU threads; as PyTorch chooses if not given')
    parser.add_argument('--repeats', type=int, default=15, help='timed steps of each')
    parser.add_argument('--worker', help=argparse.SUPPRESS)


def parse(
    parser: argparse.ArgumentParser, most: Callable[[argparse.Namespace], dict[str, int]]
) -> argparse.Namespace:
    """Read the command line; ``most`` says how large the sizes may be, given all of them."""
    add_arguments(parser)
    args = parser.parse_args()
    for name, limit in most(args).items():
        if not 1 <= getattr(args, name) <= limit:
            parser.error(f'--{name} {getattr(args, name)} must be 1 to {limit} with these sizes')
    if args.device != 'cpu' and not torch.cuda.is_available():
        parser.error(f'--device {args.device}: PyTorch finds no GPU here')
    return args


def run(build: Build, args: argparse.Namespace, title: str) -> None:
    """Weigh and time the formulations and print a table; as a worker, weigh one and print that."""
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.worker:
        print(resident_growth(build(args)[args.worker]))
        return
    console = Console()
    console.print(
        f'{title}, {processor(args.device)}, torch {torch.__version__}, '
        f'{torch.get_num_threads()} threads.'
    )
    steps = build(args)
    memory = {name: peak_memory(name, build, args) for name in steps}
    report(time_alternately(steps, args.repeats, args.device), memory, console)


def processor(device: str) -> str:
    """The name of a GPU; of a CPU the vector instructions that PyTorch and the search in C use."""
    if device != 'cpu':
        return torch.cuda.get_device_name(device)
    compiled = 'in C' if native.available() else 'in PyTorch'
    return f'cpu with {native.cpu_capability()} instructions, search {compiled}'


def time_alternately(steps: dict[str, Step], repeats: int, device: str) -> dict[str, Seconds]:
    """Time each step in turn; the first turn only warms up."""
    seconds: dict[str, Seconds] = {name: [] for name in steps}
    for turn in range(repeats + 1):
        for name, step in steps.items():
            wait(device)
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            wait(device)
            if turn:
                seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return seconds


def wait(device: str) -> None:
    """Let the device finish what it was given."""
    if device != 'cpu':
        torch.cuda.synchronize(device)


def peak_memory(name: str, build: Build, args: argparse.Namespace) -> int:
    """Bytes that a second step holds at its peak on top of what stood before it."""
    if args.device == 'cpu':
        command = [sys.executable, *sys.argv, '--worker', name]
        # Every block of 64 KiB or more is given back when freed, so that the resident size says
        # what is in use.
        environment = {**os.environ, 'MALLOC_MMAP_THRESHOLD_': str(2**16)}
        return int(subprocess.check_output(command, env=environment))
    step = build(args)[name]
    step()
    torch.cuda.reset_peak_memory_stats(args.device)
    before = torch.cuda.memory_allocated(args.device)
    step()
    return torch.cuda.max_memory_allocated(args.device) - before


def resident_growth(step: Step) -> int:
    """Growth of this process's peak resident size over a step (Linux)."""
    step()
    Path('/proc/self/clear_refs').write_text('5')
    before = resident('VmHWM')
    step()
    return resident('VmHWM') - before


def resident(key: str) -> int:
    """A figure of this process's status, in bytes."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def report(seconds: dict[str, Seconds], memory: dict[str, int], console: Console) -> None:
    """Print medians; CPU time is what a step costs however busy the machine is."""
    table = Table('formulation', 'step', 'speed', 'CPU time', 'speed', 'extra memory', 'share')
    medians = {
        name: [statistics.median(times) for times in zip(*pairs, strict=True)]
        for name, pairs in seconds.items()
    }
    yardstick = list(medians)[-1]
    for name, times in medians.items():
        cells = []
        for spent, other in zip(times, medians[yardstick], strict=True):
            cells += [f'{spent * 1e3:.1f} ms', f'{other / spent:.2f} x']
        share = memory[name] / memory[yardstick]
        table.add_row(name, *cells, f'{memory[name] / MIB:.1f} MiB', f'{share:.3f}')
    console.print(table)
