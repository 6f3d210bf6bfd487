"""Steps of InvP on split rows in several processes of this machine, and what they send."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, distributed
from torch.multiprocessing import start_processes

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT), str(ROOT.parent)]

import common  # noqa: E402
from scale_model import Sizes  # noqa: E402

from mmselfsup_invp import ops  # noqa: E402
from mmselfsup_invp.memory import FeatureBank, KNNGraph  # noqa: E402
from mmselfsup_invp.ops.collectives import gather  # noqa: E402


def unit_rows(count: int, dim: int, device: str, seed: int = 0) -> Tensor:
    """Random unit rows."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, dim, generator=generator)).to(device)


def best_time(step: Callable[[], object], device: str, repeats: int) -> float:
    """Shortest time of a step, which other load disturbs least; the first one warms up."""
    seconds = common.time_alternately(dict(step=step), repeats, device)['step']
    return min(wall for wall, _ in seconds)


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
