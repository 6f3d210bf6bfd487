"""What the tests of several operations share."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from mmselfsup_invp.ops import Neighbours

# Tests of what runs on any device run on a GPU where there is one.
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


class Allocations(TorchDispatchMode):
    """Notes the largest tensor, in elements, that any operation allocates while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        known = {_storage(leaf) for leaf in _leaves((args, kwargs)) if _is_tensor(leaf)}
        for leaf in _leaves(result):
            if _is_tensor(leaf) and _storage(leaf) not in known:
                self.largest = max(self.largest, leaf.numel())
        return result


class NeverWaits(TorchDispatchMode):
    """Fails at operations that would make the host wait for a device, were the tensors on one."""

    WAITING = (
        '_local_scalar_dense', 'nonzero', 'masked_select', 'equal', 'is_nonzero', 'unique',
        'unique2', '_unique2', 'unique_dim', 'unique_consecutive', 'bincount', 'item',
    )  # fmt: skip

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        result = func(*args, **(kwargs or {}))
        assert name not in self.WAITING, f'{name} waits for the device'
        if name in ('index', 'index_put', 'index_put_'):
            assert all(part is None or part.dtype != torch.bool for part in args[1]), (
                'an index of flags waits for the device'
            )
        if name in ('_to_copy', 'copy_'):
            devices = {leaf.device for leaf in (*_leaves(args), result) if _is_tensor(leaf)}
            assert len(devices) == 1, 'copies between devices wait'
        return result


def _leaves(tree: object) -> list:
    return tree_flatten(tree)[0]


def _is_tensor(leaf: object) -> bool:
    return isinstance(leaf, Tensor)


def _storage(tensor: Tensor) -> int:
    # Tensors of oneDNN hide their storage; none of them is a view.
    return id(tensor) if tensor.is_mkldnn else tensor.untyped_storage()._cdata


def unit_rows(rows: int, dim: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)))


def found(query: Tensor, bank: Tensor, index: Tensor) -> Neighbours:
    """The result of a search that found these rows."""
    return Neighbours((query @ bank.T).detach().gather(1, index), index)


def on_circle(*degrees: float) -> Tensor:
    """Unit vectors in the plane."""
    angle = torch.tensor([math.radians(degree) for degree in degrees], dtype=torch.float64)
    return torch.stack([angle.cos(), angle.sin()], dim=1).float()


# The shared points X of METHODS, indices 0 to 5.
POINTS = on_circle(0, 10, 25, 100, 104, 200)
