"""Initial rows of banks and queues."""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from ..options import Choice, check_option


def _unit(length: int, dim: int, generator: torch.Generator) -> Tensor:
    return F.normalize(torch.randn(length, dim, generator=generator), dim=1)


def _uniform(length: int, dim: int, generator: torch.Generator) -> Tensor:
    bound = (3 / dim) ** 0.5  # The expected squared norm of a row is 1.
    return (torch.rand(length, dim, generator=generator) * 2 - 1) * bound


INITIAL_ROWS = {'unit': _unit, 'uniform': _uniform}
DTYPES = {name: getattr(torch, name) for name in ('float32', 'float16', 'bfloat16')}
InitialRows = Annotated[str, Choice(INITIAL_ROWS)]
RowType = Annotated[str, Choice(DTYPES)]


def initial_rows(length: int, dim: int, init: str = 'unit', seed: int = 0) -> Tensor:
    """Draw the initial rows of a bank on the CPU, without the global generator.

    Args:
        length (int): N.
        dim (int): D.
        init (str): ``'unit'``: random unit vectors (`InvP <https://arxiv.org/abs/2010.11694>`_);
            ``'uniform'``: entries from U(-a, a) with a = sqrt(3 / D), not normalised (its official
            code). Defaults to ``'unit'``.
        seed (int): Seed of the generator. Defaults to 0.

    Returns:
        Tensor: float32, shape ``(N, D)``.

    Raises:
        ValueError: If ``init`` is unknown.

    Example:
        >>> initial_rows(2, 3).norm(dim=1)
        tensor([1., 1.])
    """
    check_option('initial_rows', 'init', init, InitialRows)
    return INITIAL_ROWS[init](length, dim, torch.Generator().manual_seed(seed))


def storage_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """Return the type of the stored rows by its name; raise ``ValueError`` for others.

    Example:
        >>> storage_dtype('float16')
        torch.float16
    """
    name = str(dtype).removeprefix('torch.')
    check_option('storage_dtype', 'dtype', name, RowType)
    return DTYPES[name]
