"""Project the time, memory and traffic of a step of InvP for many images and devices.

Example:
    python benchmarks/scale.py
    python benchmarks/scale.py --check

The time of the search and of the merging is measured on this machine, the bandwidths are options.
``--check`` compares the model with runs of 1, 2 and 4 processes on this machine.
"""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT), str(ROOT.parent)]

import common  # noqa: E402
from scale_model import LAYOUTS, REMEDIES, Machine, Sizes, choose  # noqa: E402
from scale_runs import best_time, run_processes, unit_rows  # noqa: E402

from mmselfsup_invp import ops  # noqa: E402

GIB = 2**30
IMAGES = (10**6, 10**8, 10**10)
DEVICES = (8, 64, 512, 4096)
# Sizes of the runs that the model is checked against.
CHECKED = dict(num=20_000, batch=16, dim=64, m=256)
PROCESSES = (1, 2, 4)


def project(machine: Machine, sizes: Sizes) -> Table:
    """The table for all images and devices."""
    columns = ['images', 'devices', 'bank', 'GiB a device', 'search', 'merge', 'link', 'bus']
    table = Table(*columns, 'step', 'GB sent', 'slowest', 'change')
    for num in IMAGES:
        for devices in DEVICES:
            s = replace(sizes, num=num, devices=devices)
            layout = choose(s, machine)
            start = (f'1e{len(str(num)) - 1}', str(devices))
            if layout is None:
                need = LAYOUTS[-1]
                size = (need.memory(s) + need.bank_bytes(s)) / GIB
                table.add_row(
                    *start, 'none fits', f'{size:.0f}', *[''] * 6, 'memory', 'more devices'
                )
                continue
            parts = layout.seconds(s, machine)
            slowest = max(parts, key=parts.get)
            times = [duration(parts[part]) for part in ('search', 'merge', 'link', 'bus')]
            table.add_row(
                *(*start, layout.name, f'{layout.memory(s) / GIB:.1f}', *times),
                *(duration(sum(parts.values())), f'{layout.traffic(s) / 1e9:.2f}'),
                *(slowest, REMEDIES[slowest]),
            )
    return table


def duration(seconds: float) -> str:
    """A time in ms or s.

    Example:
        >>> duration(0), duration(0.0123), duration(12.34), duration(34712)
        ('-', '12.3 ms', '12.3 s', '34,712 s')
    """
    if not seconds:
        return '-'
    if seconds >= 100:
        return f'{seconds:,.0f} s'
    return f'{seconds:.3g} s' if seconds >= 1 else f'{seconds * 1e3:.3g} ms'


def measure(sizes: Sizes, device: str, repeats: int, num: int = 2**19) -> tuple[float, float]:
    """Multiply-adds of a search, and candidates of a merge, in a second on this machine."""
    dtype = {2: torch.float16, 4: torch.float32}[sizes.bytes]
    bank = unit_rows(num, sizes.dim, device).to(dtype)
    query = unit_rows(sizes.batch, sizes.dim, device, seed=1)
    m = min(sizes.m, num // 8)
    search = best_time(lambda: ops.top_m(query, bank, m, sort=False), device, repeats)
    found = torch.rand(sizes.batch, 4 * m, device=device)
    merge = best_time(lambda: found.topk(m, dim=1, sorted=False), device, repeats)
    return sizes.batch * num * sizes.dim / search, found.numel() / merge


def check(sizes: Sizes, repeats: int) -> Table:
    """The model beside runs of this machine, whose processes share its cores."""
    columns = ['processes', 'bytes sent', 'model', 'bytes held', 'model', 'step', 'model']
    table = Table(*columns)
    layout = LAYOUTS[1]
    torch.set_num_threads(1)
    cores = len(os.sched_getaffinity(0))
    rest = 0.0  # Losses and updates, which the model of large banks leaves out.
    for devices in PROCESSES:
        s = replace(sizes, devices=devices)
        found = run_processes(s, repeats)
        share = min(1.0, cores / devices)
        products, merged = measure(s, 'cpu', repeats, num=s.num)
        machine = Machine(
            *(products * share, merged * share, found.get('link', 1.0), found.get('latency', 0.0)),
            *(1.0, 0.0, 0.0, rest / share),
        )
        if devices == 1:
            rest = max(found['seconds'] - sum(layout.seconds(s, machine).values()), 0.0)
            machine = replace(machine, network=rest)
        modelled = sum(layout.seconds(s, machine).values())
        held = layout.bank_bytes(s) + s.rows * s.k * 8
        table.add_row(
            *(str(devices), f'{found["sent"]:.0f}', f'{layout.traffic(s):.0f}'),
            *(f'{found["held"]:.0f}', f'{held}', duration(found['seconds']), duration(modelled)),
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    common.add_arguments(parser)
    parser.add_argument('--check', action='store_true', help='compare the model with runs here')
    for name in ('batch', 'dim', 'm', 'k'):
        parser.add_argument(f'--{name}', type=int, default=getattr(Sizes, name))
    parser.add_argument('--bytes', type=int, choices=[2, 4], default=2, help='of a stored value')
    parser.add_argument('--parameters', type=float, default=28e6, help='of the network')
    parser.add_argument('--products', type=float, help='multiply-adds of a search in a second')
    parser.add_argument('--merged', type=float, help='candidates merged in a second')
    parser.add_argument('--link', type=float, default=25, help='GB/s of a device to others')
    parser.add_argument('--latency', type=float, default=50, help='microseconds of a collective')
    parser.add_argument('--bus', type=float, default=25, help='GB/s from host memory')
    parser.add_argument('--memory', type=float, default=60, help='GiB of a device for the bank')
    parser.add_argument('--host-memory', type=float, default=128, help='GiB for each device')
    parser.add_argument('--network', type=float, default=100, help='ms of the network in a step')
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    console = Console(width=200)
    if args.check:
        sizes = Sizes(**CHECKED, bytes=4, k=args.k)
        console.print(
            f'InvP, {CHECKED}, float32, one thread a process.', check(sizes, args.repeats)
        )
        return
    sizes = Sizes(0, 1, args.batch, args.dim, args.bytes, args.m, args.k, 3, int(args.parameters))
    products, merged = args.products, args.merged
    if not (products and merged):
        products, merged = measure(sizes, args.device, args.repeats)
    machine = Machine(
        *(products, merged, args.link * 1e9, args.latency * 1e-6, args.bus * 1e9),
        *(args.memory * GIB, args.host_memory * GIB, args.network * 1e-3),
    )
    console.print(
        f'A device searches with {products:.3g} multiply-adds/s and merges {merged:.3g} '
        f'candidates/s; B = {args.batch}, D = {args.dim}, M = {args.m}, network {args.network} ms.'
    )
    console.print(project(machine, sizes))


if __name__ == '__main__':
    main()
