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
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, distributed
from torch.multiprocessing import start_processes

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT), str(ROOT.parent)]

import common  # noqa: E402

from mmselfsup_invp import ops  # noqa: E402
from mmselfsup_invp.memory import FeatureBank, KNNGraph  # noqa: E402
from mmselfsup_invp.ops.collectives import gather  # noqa: E402

GIB = 2**30
IMAGES = (10**6, 10**8, 10**10)
DEVICES = (8, 64, 512, 4096)
# Sizes of the runs that the model is checked against.
CHECKED = dict(num=20_000, batch=16, dim=64, m=256)
PROCESSES = (1, 2, 4)


@dataclass(frozen=True)
class Sizes:
    """A step: W devices, B images on each, a bank of N rows, M negatives, k neighbours."""

    num: int
    devices: int = 1
    batch: int = 128
    dim: int = 128
    bytes: int = 2
    m: int = 4096
    k: int = 4
    hops: int = 3
    parameters: int = 0

    @property
    def positives(self) -> int:
        """L, the most positives of an image."""
        return sum(self.k**hop for hop in range(1, self.hops + 1))

    @property
    def rows(self) -> int:
        """Rows of the device that has most, if they are split."""
        return -(-self.num // self.devices)


@dataclass(frozen=True)
class Machine:
    """What a device does in a second; memory in bytes.

    Attributes:
        products (float): Multiply-adds of a search.
        merged (float): Candidates of which the nearest are selected.
        link (float): Bytes that it sends to other devices.
        latency (float): Seconds that a collective takes at least.
        bus (float): Bytes that it reads from host memory.
        memory (float): Its memory for the bank.
        host_memory (float): Host memory for its part of the bank.
        network (float): Seconds of the network, forward and backward, in a step.
    """

    products: float
    merged: float
    link: float
    latency: float
    bus: float
    memory: float
    host_memory: float
    network: float


class Layout:
    """Where the bank is: a copy on each device, split, or split and in host memory."""

    def __init__(self, name: str, *, split: bool, offload: bool) -> None:
        self.name = name
        self.split = split
        self.offload = offload

    def bank_bytes(self, s: Sizes) -> int:
        """Bank of one device."""
        return (s.rows if self.split else s.num) * s.dim * s.bytes

    def memory(self, s: Sizes) -> int:
        """Bytes on a device: bank and graph, and the candidates of a search."""
        graph = (s.rows if self.split else s.num) * s.k * 8
        candidates = 24 * s.batch * (s.m + 1) * (s.devices if self.split else 1)
        return graph + candidates + (0 if self.offload else self.bank_bytes(s))

    def fits(self, s: Sizes, machine: Machine) -> bool:
        """Whether the memories of a device are large enough."""
        host = self.bank_bytes(s) if self.offload else 0
        return self.memory(s) <= machine.memory and host <= machine.host_memory

    def traffic(self, s: Sizes) -> float:
        """Bytes that a device sends in a step."""
        reduced = 2 * (s.devices - 1) / s.devices
        batch = 4 * s.dim + 8 + 8 * s.k  # Query, row and neighbours, which all devices write.
        sent = split_bytes(s) if self.split else 0
        # The gradients, and the number of queries that have positives.
        return (s.devices - 1) * s.batch * (batch + sent) + reduced * (4 * s.parameters + 4)

    def seconds(self, s: Sizes, machine: Machine) -> dict[str, float]:
        """Time of the parts of a step."""
        several = s.devices > 1
        collectives = (22 + 2 * s.hops if self.split else 5) if several else 0
        return dict(
            network=machine.network,
            # W * B queries in N / W rows, or B queries in N rows.
            search=s.batch * s.num * s.dim / machine.products,
            merge=s.batch * (s.m + 1) * s.devices / machine.merged if self.split else 0.0,
            link=self.traffic(s) / machine.link + collectives * machine.latency,
            bus=self.bank_bytes(s) / machine.bus if self.offload else 0.0,
        )


def split_bytes(s: Sizes) -> int:
    """Bytes that a device sends to each other one for a query, if the rows are split."""
    number = 4 if s.num <= 2**31 else 8
    search = 4 * s.dim + (4 + number) * (s.m + 1)
    walk = 8 * ((1 - s.k**s.hops) // (1 - s.k) if s.k > 1 else s.hops) + 8 * s.positives
    # The own row and the positives, then the gradients of both and of the negatives.
    forward = 2 * 4 * s.dim + 12 * (1 + s.positives)
    backward = 3 * 4 * s.dim + 12 * (1 + s.positives + s.m + 1)
    return search + walk + forward + backward


LAYOUTS = (
    Layout('copy on each', split=False, offload=False),
    Layout('shard', split=True, offload=False),
    Layout('shard, offload', split=True, offload=True),
)
# What takes longest beside the network, and the options that change it.
REMEDIES = dict(
    network='-',
    search='PropagationQueue: its length does not grow with the images',
    merge='a lower num_background, smaller batches',
    link='a lower num_background, smaller batches',
    bus='more devices, so that the bank fits without offload',
)


def choose(s: Sizes, machine: Machine) -> Layout | None:
    """The first layout that fits."""
    return next((layout for layout in LAYOUTS if layout.fits(s, machine)), None)


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
        >>> duration(0), duration(0.0123), duration(12.3)
        ('-', '12 ms', '12 s')
    """
    if not seconds:
        return '-'
    return f'{seconds:.3g} s' if seconds >= 1 else f'{seconds * 1e3:.2g} ms'


def unit_rows(count: int, dim: int, device: str, seed: int = 0) -> Tensor:
    """Random unit rows."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, dim, generator=generator)).to(device)


def best_time(step: Callable[[], object], device: str, repeats: int) -> float:
    """Shortest time of a step, which other load disturbs least; the first one warms up."""
    seconds = common.time_alternately(dict(step=step), repeats, device)['step']
    return min(wall for wall, _ in seconds)


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


# ---- the check -----------------------------------------------------------------------------------


@contextmanager
def counted_bytes() -> Iterator[list[float]]:
    """Collect the bytes that each collective of this process sends."""
    sent: list[float] = []
    count = distributed.get_world_size()
    shares = dict(all_gather=count - 1, all_to_all_single=(count - 1) / count)
    shares['all_reduce'] = 2 * (count - 1) / count

    def counted(name: str) -> Callable:
        original = getattr(distributed, name)

        def call(*args, **kwargs):
            part = args[0] if name == 'all_reduce' else args[1]
            sent.append(part.numel() * part.element_size() * shares[name])
            return original(*args, **kwargs)

        return call

    with patch.multiple(distributed, **{name: counted(name) for name in shares}):
        yield sent


def step_of(s: Sizes) -> tuple[Callable[[], None], FeatureBank, KNNGraph]:
    """A step on split rows without a network, and the state that it updates."""
    dtype = 'float16' if s.bytes == 2 else 'float32'
    bank = FeatureBank(s.dim, s.num, dtype=dtype, shard=True)
    graph = KNNGraph(s.k, s.num, shard=True)
    rank = distributed.get_rank()
    anchor = torch.arange(s.batch) + rank * s.batch
    graph.link(torch.arange(s.num), (torch.arange(s.num)[:, None] + 1 + torch.arange(s.k)) % s.num)
    sampling = ops.HardSampling(num_background=s.m)

    def step() -> None:
        query = unit_rows(s.batch, s.dim, 'cpu', seed=rank).requires_grad_()
        positive = graph.propagate(anchor, s.hops)
        found = ops.invp_step(
            query, bank.view('bank'), anchor, positive, sampling, num_neighbours=s.k
        )
        (found.instance + found.propagation).backward()
        rows, feature, neighbours = map(gather, (anchor, query.detach(), found.neighbours))
        bank.update(rows, feature)
        graph.link(rows, neighbours)

    return step, bank, graph


def run_process(rank: int, s: Sizes, folder: str, repeats: int) -> None:
    """Measure a step in one of the processes; the first one writes what it found."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/group', rank=rank, world_size=s.devices
    )
    step, bank, graph = step_of(s)
    with counted_bytes() as sent:
        step()
    held = bank.bank.nbytes + graph.neighbours.nbytes
    payload = torch.zeros(s.devices, 2**16)
    received = torch.empty_like(payload)
    link = best_time(lambda: distributed.all_to_all_single(received, payload), 'cpu', repeats)
    small = torch.zeros(s.devices, 1)
    latency = best_time(lambda: distributed.all_to_all_single(small.clone(), small), 'cpu', repeats)
    found = dict(seconds=best_time(step, 'cpu', repeats), sent=sum(sent), held=held)
    if s.devices > 1:
        sent_now = payload.nbytes * (s.devices - 1) / s.devices
        found.update(link=sent_now / max(link - latency, 1e-9), latency=latency)
    if not rank:
        torch.save(found, f'{folder}/found.pth')
    distributed.barrier()
    distributed.destroy_process_group()


def run_processes(s: Sizes, repeats: int) -> dict[str, float]:
    """What a step takes in each of several processes on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        start_processes(run_process, (s, folder, repeats), nprocs=s.devices, start_method='spawn')
        return torch.load(f'{folder}/found.pth')


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
