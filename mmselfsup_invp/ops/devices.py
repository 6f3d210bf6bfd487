"""Whether the Triton kernels can be used for a bank; importing this does not import Triton."""

import functools
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

# Before, atomic_add gives some threads a wrong result (triton-lang/triton issue 7402, mended in
# pull request 7460). PyTorch 2.9 brings this one.
TRITON_VERSION = (3, 5)
# Of the GPU: what Triton supports.
CAPABILITY = (8, 0)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@functools.cache
def kernels() -> ModuleType:
    """Import :mod:`.fused`.

    Raises:
        ImportError: If Triton is missing or too old; the message says which.
    """
    needed = '.'.join(map(str, TRITON_VERSION))
    if find_spec('triton') is None:
        raise ImportError(f'Triton {needed} or newer is not installed')
    import triton

    if tuple(int(part) for part in triton.__version__.split('.')[:2]) < TRITON_VERSION:
        raise ImportError(f'Triton is {triton.__version__}, needed is {needed} or newer')
    from . import fused

    return fused


def fused_obstacle(bank: Tensor) -> str | None:
    """Say why the Triton kernels cannot read a bank; None if they can.

    Args:
        bank (Tensor): Shape ``(N, D)``.

    Returns:
        str | None: The reason, a clause.

    Example:
        >>> fused_obstacle(torch.ones(1, 2, dtype=torch.float64))
        'the bank is torch.float64, its kernels read float32, float16 and bfloat16'
    """
    if bank.dtype not in DTYPES:
        return f'the bank is {bank.dtype}, its kernels read float32, float16 and bfloat16'
    if bank.device.type not in ('cpu', 'cuda'):
        return f'the bank is on {bank.device}, its kernels run on CUDA devices'
    try:
        interpreted = kernels().INTERPRETED
    except ImportError as error:
        return str(error)
    if bank.device.type == 'cpu' and not interpreted:
        return 'the bank is on the CPU, where its kernels run with TRITON_INTERPRET=1 only'
    if bank.is_cuda and torch.cuda.get_device_capability(bank.device) < CAPABILITY:
        return f'{torch.cuda.get_device_name(bank.device)} is older than Triton supports'
    return None
