"""Two processes on one CPU, as the distributed tests train on them."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.multiprocessing import spawn

RANKS = 2
# Of a rank for another that never comes; half an hour unless told.
LONGEST_WAIT = timedelta(minutes=5)

# What makes a Runner of a test train in such a process.
OPTIONS = dict(
    launcher='pytorch',
    env_cfg=dict(dist_cfg=dict(backend='gloo')),
    model_wrapper_cfg=dict(
        type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False
    ),
)


def run_ranks(scenarios: Callable[..., dict], folder: Path, *inputs: Any) -> list[dict]:
    """What ``scenarios(folder, *inputs)``, a function of a module, returns on every rank."""
    spawn(_process, (scenarios, folder, inputs), nprocs=RANKS)
    return [torch.load(folder / f'{rank}.pth', weights_only=False) for rank in range(RANKS)]


def _process(rank: int, scenarios: Callable[..., dict], folder: Path, inputs: tuple) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(RANKS))
    # By hand, for the host's own start asks for a GPU.
    distributed.init_process_group(
        'gloo',
        init_method=f'file://{folder}/group',
        rank=rank,
        world_size=RANKS,
        timeout=LONGEST_WAIT,
    )
    torch.save(scenarios(folder, *inputs), folder / f'{rank}.pth')
    # A rank that ended first would close its connections while the other still uses them,
    # and gloo answers that with an abort.
    distributed.barrier()
    distributed.destroy_process_group()
