"""Distributed runs on CPUs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from mmengine.config import Config
from mmengine.device import get_device
from torch import distributed

# Environment variable that torchrun sets in each process.
TORCHRUN = 'TORCHELASTIC_RUN_ID'


@contextmanager
def process_group(cfg: Config) -> Iterator[None]:
    """Join the processes of a distributed run on CPUs, and leave them when it has ended.

    MMEngine (0.10.7) starts distributed runs on accelerators only: its ``init_dist`` calls
    ``torch.cuda.set_device``, and its runner passes a device id to DistributedDataParallel. On CPUs
    the group is therefore created here, with the backend gloo and the timeout of
    ``env_cfg.dist_cfg``, and ``cfg.model_wrapper_cfg`` is set unless the config has one.

    Raises:
        ValueError: If the launcher cannot start a run on CPUs, or torchrun started several
            processes and the run has no launcher.
    """
    launcher = cfg.get('launcher', 'none')
    _check_launcher(launcher)
    if launcher == 'none' or get_device() != 'cpu':
        yield
        return
    options = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
    if cfg.get('find_unused_parameters'):
        options['find_unused_parameters'] = True
    cfg.setdefault('model_wrapper_cfg', options)
    dist_cfg = cfg.get('env_cfg', {}).get('dist_cfg', {})
    seconds = dist_cfg.get('timeout')
    timeout = {} if seconds is None else dict(timeout=timedelta(seconds=seconds))
    distributed.init_process_group('gloo', **timeout)
    yield
    # A process that ends while another one still sends to it makes that one fail.
    distributed.barrier()
    distributed.destroy_process_group()


def _check_launcher(launcher: str) -> None:
    processes = int(os.environ.get('WORLD_SIZE', 1))
    if launcher == 'none' and processes > 1 and TORCHRUN in os.environ:
        raise ValueError(
            f'torchrun started {processes} processes, but the run has no launcher: each would '
            'train alone, in the same work folder. Add --launcher pytorch.'
        )
    if launcher not in ('none', 'pytorch') and get_device() == 'cpu':
        raise ValueError(
            f'--launcher {launcher} starts runs on accelerators only, and there is none. On CPUs '
            'start the processes by torchrun or tools/dist_train.sh, with --launcher pytorch.'
        )
