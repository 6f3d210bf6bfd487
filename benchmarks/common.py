"""What the benchmarks share: formulations alternate, and the extra memory of each is measured.

A formulation is a function without arguments that takes one step. ``build(args)`` makes a fresh set
of them by name; the others are compared with the last one.
"""

import argparse
import json
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
    """Add the options of every benchmark."""
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, help='CPU threads; as PyTorch chooses if not given')
    parser.add_argument('--repeats', type=int, default=15, help='timed steps of each')
    parser.add_argument('--worker', help=argparse.SUPPRESS)


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option that :func:`append_json` takes its path from."""
    parser.add_argument(
        '--json', type=Path, metavar='FILE', help='append the result to this file, in a line'
    )


def parse(
    parser: argparse.ArgumentParser, most: Callable[[argparse.Namespace], dict[str, int]]
) -> argparse.Namespace:
    """Read the command line; ``most`` says how large the sizes may be, given all of them."""
    add_arguments(parser)
    parser.add_argument(
        '--profile', action='store_true', help='list the longest operations of a step of ours'
    )
    add_json_argument(parser)
    args = parser.parse_args()
    for name, limit in most(args).items():
        if not 1 <= getattr(args, name) <= limit:
            parser.error(f'--{name} {getattr(args, name)} must be 1 to {limit} with these sizes')
    if args.device != 'cpu' and not torch.cuda.is_available():
        parser.error(f'--device {args.device}: PyTorch finds no GPU here')
    return args


def run(build: Build, args: argparse.Namespace, title: str, memory: bool = True) -> None:
    """Compare the formulations and print a table; a worker prints the memory of one of them.

    With ``--json`` the medians are appended to that file: ``seconds`` and ``cpu_seconds`` of a step
    and, with ``memory``, the extra ``bytes``, each by formulation.
    """
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.worker:
        print(resident_growth(build(args)[args.worker]))
        return
    console = Console()
    title = (
        f'{title}, {processor(args.device)}, torch {torch.__version__}, '
        f'{torch.get_num_threads()} threads.'
    )
    console.print(title)
    steps = build(args)
    size = {name: peak_memory(name, build, args) for name in steps} if memory else {}
    median = medians(time_alternately(steps, args.repeats, args.device))
    console.print(table(median, size))
    wall, cpu = ({name: times[part] for name, times in median.items()} for part in (0, 1))
    append_json(args.json, dict(title=title, seconds=wall, cpu_seconds=cpu, bytes=size))
    if args.profile:
        print(profile(next(iter(steps.values())), args.device))


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
    """Bytes that a second step holds at its peak beside what was allocated before it."""
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


def profile(step: Step, device: str) -> str:
    """List the operations of a step by their time on the device, with the number of calls."""
    with torch.profiler.profile() as found:
        step()
        wait(device)
    where = 'cpu' if device == 'cpu' else 'device'
    return found.key_averages().table(
        sort_by=f'self_{where}_time_total', row_limit=25, max_name_column_width=70
    )


def medians(seconds: dict[str, Seconds]) -> dict[str, tuple[float, float]]:
    """Wall and CPU seconds of a step; the fastest formulation first, the reference last."""
    median = {
        name: tuple(statistics.median(times) for times in zip(*pairs, strict=True))
        for name, pairs in seconds.items()
    }
    *others, reference = median
    return {name: median[name] for name in [*sorted(others, key=median.get), reference]}


def table(median: dict[str, tuple[float, float]], size: dict[str, int]) -> Table:
    """Compare with the last formulation; CPU time does not depend on other load."""
    columns = ('formulation', 'step', 'speed', 'CPU time', 'speed')
    found = Table(*columns, *(('extra memory', 'share') if size else ()))
    reference = list(median)[-1]
    for name, times in median.items():
        cells = []
        for spent, other in zip(times, median[reference], strict=True):
            cells += [f'{spent * 1e3:.1f} ms', f'{other / spent:.2f} x']
        if size:
            share = f'{size[name] / size[reference]:.3f}' if size[reference] else '-'
            cells += [f'{size[name] / MIB:.1f} MiB', share]
        found.add_row(name, *cells)
    return found


def append_json(path: Path | None, record: dict) -> None:
    """Append a record to a file, as a line; nothing without a path."""
    if path is not None:
        with path.open('a') as file:
            file.write(json.dumps(record) + '\n')
