"""Exact search: the rows of the bank most similar to each query."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from . import devices, flat, native
from .blocks import Found, Hidden, search_blocks
from .checks import require_choice, require_features, require_length, require_range
from .proof import proven
from .sieve import search_fused, sieve

# Similarities that one call holds at a time unless told otherwise: 8 MiB on the CPU, 64 MiB on
# accelerators.
CPU_ELEMENTS = 2**21
DEVICE_ELEMENTS = 2**24


class Neighbours(NamedTuple):
    """Rows of the bank found for each query.

    Attributes:
        similarity (Tensor): float32, shape ``(B, m)``, the inner products with the query.
        index (Tensor): int64, shape ``(B, m)``, the rows of the bank.
    """

    similarity: Tensor
    index: Tensor


def default_elements(device: torch.device) -> int:
    """Return how many similarities to hold at a time on ``device``."""
    return CPU_ELEMENTS if device.type == 'cpu' else DEVICE_ELEMENTS


@torch.no_grad()
def top_m(
    query: Tensor,
    bank: Tensor,
    m: int,
    *,
    exclude: Tensor | None = None,
    bank_label: Tensor | None = None,
    query_label: Tensor | None = None,
    sort: bool = True,
    max_elements: int | None = None,
    backend: str = 'auto',
) -> Neighbours:
    """Find the ``m`` rows of the bank with the highest inner product with each query.

    With each query's own row as ``exclude`` this is N_M(i) of the InvP paper (`arXiv:2010.11694
    <https://arxiv.org/abs/2010.11694>`_, section 3.3). The result is exact, ties aside, where
    all numbers are finite; a query that holds NaN finds any rows. The similarities are computed in
    float32 whatever the storage type, block by block, so that the memory on top of the result is
    bounded by ``max_elements`` and does not grow with ``N``. No gradient flows through the search;
    :func:`bank_similarity` gives similarities that have one.

    Backends:

    - ``'torch'``: matrix products and ``topk``, on any device.
    - ``'native'``: one pass in C, on the CPU, if it was compiled.
    - ``'triton'``: one pass on a GPU, without waiting for it; what passes a threshold is held in
      addition, about twice the result. With a bfloat16 bank the queries are rounded to 16 bits.
      Unsorted, the order of the rows differs from run to run.
    - ``'faiss'``: the exact search of faiss; without labels, and on GPUs for 2048 rows at most.
      Converts a bank of 16-bit numbers as a whole.
    - ``'auto'``: ``'native'`` on the CPU and ``'triton'`` on CUDA devices if they can be used,
      ``'torch'`` otherwise. The kernels of Triton are first tried on a small problem
      (:mod:`.proof`), and not taken where ``torch.use_deterministic_algorithms(True)`` holds.

    Args:
        query (Tensor): Float, shape ``(B, D)``; unit rows make the inner product the cosine.
        bank (Tensor): Float (any width), shape ``(N, D)``, on the device of ``query``.
        m (int): Rows to find for each query, 1 to N, or to N - 1 with ``exclude``.
        exclude (Tensor, optional): int64, shape ``(B,)``, one row of the bank that each query
            must not find. Defaults to None, find any row.
        bank_label (Tensor, optional): Integer, shape ``(N,)``, a label of each row: queries find
            only rows of another label than ``query_label``. Where these are fewer than ``m``, the
            rest of the result has the similarity -inf and any rows. Defaults to None, find any
            row.
        query_label (Tensor, optional): Of the type of ``bank_label``, shape ``(B,)``.
        sort (bool): Whether to give them in descending order. If not, the order is arbitrary
            but for the least similar, which stands last; the losses need no more, and sorting
            thousands of columns costs about as much as finding them. Defaults to True.
        max_elements (int, optional): Similarities held at a time. Defaults to None: 2**21
            (8 MiB) on the CPU, 2**24 elsewhere.
        backend (str): How to search. Defaults to ``'auto'``.

    Returns:
        Neighbours: Similarity, float32, and row index, int64, both ``(B, m)``.

    Raises:
        ValueError: If the shapes do not fit, ``m`` is not within its range, or the backend is
            unknown or cannot be used here.

    Example:
        >>> bank = torch.eye(4)
        >>> top_m(torch.tensor([[0.8, 0.6, 0.0, 0.0]]), bank, m=2)
        Neighbours(similarity=tensor([[0.8000, 0.6000]]), index=tensor([[0, 1]]))
    """
    require_features('bank', bank)
    require_features('query', query, bank.size(1))
    _check_hidden(query, bank, exclude, bank_label, query_label)
    others = len(bank) if exclude is None else len(bank) - 1
    require_range('m', m, 1, others, f'each query has {others} rows of the bank to find')
    hidden = Hidden(exclude, bank_label, query_label)
    limit = max_elements or default_elements(bank.device)
    search = _backend(backend, hidden, bank, m)
    found = search(query, hidden, bank, m, limit) if len(query) else None
    similarity, index = found or search_blocks(query, hidden, bank, m, limit)
    if sort:
        similarity, order = similarity.sort(dim=1, descending=True)
        index = index.gather(1, order)
    else:
        farthest = similarity.argmin(dim=1, keepdim=True)
        _swap_with_last(similarity, farthest)
        _swap_with_last(index, farthest)
    return Neighbours(similarity, index)


def _check_hidden(
    query: Tensor,
    bank: Tensor,
    exclude: Tensor | None,
    bank_label: Tensor | None,
    query_label: Tensor | None,
) -> None:
    """Raise unless what is hidden from the queries fits them; values would cost a wait."""
    if (bank_label is None) != (query_label is None):
        raise ValueError('bank_label and query_label belong together: give both or neither.')
    if exclude is not None:
        require_length('exclude', exclude, len(query), 'query')
    if bank_label is not None:
        require_length('bank_label', bank_label, len(bank), 'row of the bank')
        require_length('query_label', query_label, len(query), 'query')


def _swap_with_last(values: Tensor, column: Tensor) -> None:
    """Exchange one entry of each row with its last, in place."""
    last = values[:, -1:].clone()
    values[:, -1:] = values.gather(1, column)
    values.scatter_(1, column, last)


def nearest_first(similarity: Tensor, index: Tensor, num: Tensor) -> tuple[Tensor, Tensor]:
    """Put the ``num`` most similar rows of each query first, in any order.

    What stands behind them means nothing. Sorting does more than this asks for, and is what there
    is on other devices than the CPU.

    Args:
        similarity (Tensor): float32, shape ``(B, m)``, without NaN.
        index (Tensor): int64, shape ``(B, m)``, the rows of the bank.
        num (Tensor): int64, shape ``(B,)``, at most m.

    Returns:
        tuple[Tensor, Tensor]: Similarity and index, of the same shapes.
    """
    if similarity.device.type == 'cpu' and native.available():
        count = torch.full_like(num, similarity.size(1))
        passed = native.Passed(similarity.clone(), index.int(), count)
        native.put_highest_first(passed, num)
        return passed.value, passed.index.long()
    similarity, order = similarity.sort(dim=1, descending=True)
    return similarity, index.gather(1, order)


def _search_torch(query: Tensor, hidden: Hidden, bank: Tensor, m: int, limit: int) -> Found | None:
    if bank.device.type != 'cpu':
        return None
    return sieve(query, hidden, bank, m, limit, compiled=False)


def _search_native(query: Tensor, hidden: Hidden, bank: Tensor, m: int, limit: int) -> Found | None:
    return sieve(query, hidden, bank, m, limit, compiled=True)


def _search_flat(query: Tensor, hidden: Hidden, bank: Tensor, m: int, _: int) -> Found | None:
    """Search with faiss for one row more than is asked for if one is hidden, and drop that."""
    if hidden.exclude is None:
        similarity, index = flat.flat_search(query, bank, m)
    else:
        similarity, index = flat.flat_search(query, bank, m + 1)
        similarity.masked_fill_(index == hidden.exclude[:, None], -torch.inf)
        similarity, kept = similarity.topk(m, dim=1)
        index = index.gather(1, kept)
    # A NaN hides a row from faiss.
    return None if (index < 0).any() else (similarity, index)


def _native_obstacle(_: Hidden, bank: Tensor, m: int) -> str | None:
    if bank.device.type != 'cpu':
        return f'the bank is on {bank.device}, it searches on the CPU'
    if not native.available():
        return 'it was not compiled for this processor and the threads of PyTorch'
    return None


def _flat_obstacle(hidden: Hidden, bank: Tensor, m: int) -> str | None:
    if hidden.bank_label is not None:
        return 'it cannot hide rows by their labels'
    return flat.flat_obstacle(bank, m + (hidden.exclude is not None))


# Gives None where blocks are better.
Search = Callable[[Tensor, Hidden, Tensor, int, int], Found | None]


class _Backend(NamedTuple):
    """A search, and why it cannot be used, None if it can."""

    search: Search
    obstacle: Callable[[Hidden, Tensor, int], str | None]


BACKENDS = {
    'torch': _Backend(_search_torch, lambda *_: None),
    'native': _Backend(_search_native, _native_obstacle),
    'triton': _Backend(search_fused, lambda hidden, bank, m: devices.fused_obstacle(bank)),
    'faiss': _Backend(_search_flat, _flat_obstacle),
}
# What 'auto' takes if it can be used.
PREFERRED = {'cpu': 'native', 'cuda': 'triton'}


def require_backend(name: str) -> None:
    """Raise ``ValueError`` that lists the backends unless ``name`` is one."""
    require_choice('backend', name, ['auto', *BACKENDS])


def _backend(name: str, hidden: Hidden, bank: Tensor, m: int) -> Search:
    """Look up a backend that can be used."""
    require_backend(name)
    if name == 'auto':
        name = _automatic(hidden, bank, m)
    reason = BACKENDS[name].obstacle(hidden, bank, m)
    if reason is None:
        return BACKENDS[name].search
    usable = [other for other in BACKENDS if BACKENDS[other].obstacle(hidden, bank, m) is None]
    raise ValueError(
        f'backend = {name!r} cannot be used: {reason}. '
        f'Usable here: {", ".join(map(repr, ["auto", *usable]))}.'
    )


def _automatic(hidden: Hidden, bank: Tensor, m: int) -> str:
    name = PREFERRED.get(bank.device.type, 'torch')
    if BACKENDS[name].obstacle(hidden, bank, m):
        return 'torch'
    if name == 'triton':
        # Its rows come in the order in which the programs of the GPU finish.
        varies = torch.are_deterministic_algorithms_enabled()
        return 'torch' if varies or not proven(bank.device, bank.dtype) else name
    return name
