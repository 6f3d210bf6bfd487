"""Several processes on one CPU for the distributed tests."""

import os
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import set_forkserver_preload
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.multiprocessing import start_processes

# For a rank that has failed; the default is half an hour.
LONGEST_WAIT = timedelta(minutes=5)

# Options with which the runner of a test trains in such a process.
OPTIONS = dict(
    launcher='pytorch',
    env_cfg=dict(dist_cfg=dict(backend='gloo')),
    model_wrapper_cfg=dict(
        type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False
    ),
)


def run_ranks(
    scenarios: Callable[..., dict], folder: Path, *inputs: Any, count: int = 2
) -> list[dict]:
    """Return what ``scenarios(folder, *inputs)``, a function of a module, returns on each rank."""
    preload()
    arguments = (count, scenarios, folder, inputs)
    start_processes(_process, arguments, nprocs=count, start_method='forkserver')
    return [torch.load(folder / f'{rank}.pth', weights_only=False) for rank in range(count)]


def preload() -> None:
    """Let the server of new processes import the package, once for all tests."""
    set_forkserver_preload(['tests.toy'])


def _process(
    rank: int, count: int, scenarios: Callable[..., dict], folder: Path, inputs: tuple
) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count))
    # MMEngine's own initialisation needs a GPU.
    distributed.init_process_group(
        'gloo',
        init_method=f'file://{folder}/group',
        rank=rank,
        world_size=count,
        timeout=LONGEST_WAIT,
    )
    torch.save(scenarios(folder, *inputs), folder / f'{rank}.pth')
    # gloo aborts if a rank closes its connections while the other one still uses them.
    distributed.barrier()
    distributed.destroy_process_group()
