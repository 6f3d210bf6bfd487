import math

import torch
import torch.nn.functional as F
from torch import Tensor

NOT_FINITE = [math.nan, math.inf, -math.inf]
DTYPES = ['float32', 'float16', 'bfloat16']


def rows(count: int, dim: int = 4, seed: int = 0) -> Tensor:
    """Random unit rows."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, dim, generator=generator))


def saved(module: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of the state."""
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_same(state: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert state.keys() == other.keys()
    for name, value in state.items():
        assert torch.equal(value, other[name]) and value.dtype == other[name].dtype, name
