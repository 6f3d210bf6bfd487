"""Exact search: the rows of the bank most similar to each query.

:func:`top_m` checks a request and hands it to a backend, a module of this package with a function
``search``. A backend may decline by returning None; then :mod:`.torch_blocks` ranks all rows.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from ...options import Choice, check_option
from ..checks import require_features, require_length, require_range
from . import faiss, native, self_test, torch_blocks
from .order import highest_columns, nearest_few, nearest_first, sort_descending
from .products import disable_autocast, similarities
from .request import Neighbours, Request
from .rows import BankRows, merge, part_of
from .threshold import fallbacks, reset_fallbacks

__all__ = [
    'BACKENDS',
    'BackendName',
    'BankRows',
    'Neighbours',
    'default_elements',
    'fallbacks',
    'highest_columns',
    'merge',
    'nearest_few',
    'nearest_first',
    'part_of',
    'reset_fallbacks',
    'search_rows',
    'similarities',
    'top_m',
]

# Similarities that one call holds at a time by default: 8 MiB on the CPU, 64 MiB on accelerators.
CPU_ELEMENTS = 2**21
DEVICE_ELEMENTS = 2**24


class Backend(NamedTuple):
    """The module that searches, and a function that says why it cannot serve a request, or None."""

    module: str
    unsupported_reason: Callable[[Request], str | None]


BACKENDS = {
    'torch': Backend('torch_blocks', lambda request: None),
    'native': Backend('native', native.unsupported_reason),
    'triton': Backend('triton', lambda request: self_test.unsupported_reason(request.bank)),
    'faiss': Backend('faiss', faiss.unsupported_reason),
}
BackendName = Annotated[str, Choice(('auto', *BACKENDS))]
# What 'auto' takes if it can be used.
PREFERRED = {'cpu': 'native', 'cuda': 'triton'}


def default_elements(device: torch.device) -> int:
    """Return how many similarities to hold at a time on ``device``."""
    return CPU_ELEMENTS if device.type == 'cpu' else DEVICE_ELEMENTS


@torch.no_grad()
def top_m(
    query: Tensor,
    bank: Tensor | BankRows,
    m: int,
    *,
    exclude: Tensor | None = None,
    labels: tuple[Tensor, Tensor] | None = None,
    sort: bool = True,
    max_elements: int | None = None,
    backend: str = 'auto',
) -> Neighbours:
    """Find the ``m`` rows of the bank with the highest inner product with each query.

    With each query's own row as ``exclude`` this is N_M(i) of the InvP paper (`arXiv:2010.11694
    <https://arxiv.org/abs/2010.11694>`_). The result is exact, ties aside, if all numbers are
    finite; a query that holds NaN finds arbitrary rows. The similarities are computed in float32
    whatever the storage type and the autocast mode, block by block: beside the result, memory is
    bounded by ``max_elements`` and does not grow with ``N``. No gradient flows through the search;
    pass its result to :func:`bank_similarity` for similarities that have one.

    Backends:

    - ``'torch'``: matrix products and ``topk``, on any device.
    - ``'native'``: one pass in C, on the CPU, if it was compiled.
    - ``'triton'``: one pass on a GPU without host synchronisation. Holds the rows that pass a
      threshold in addition, about twice the result. With a bfloat16 bank the queries are rounded
      to 16 bits. Unsorted, the order of the rows differs from run to run.
    - ``'faiss'``: exact search by faiss; without labels, and on GPUs for 2048 rows at most.
      Converts a 16-bit bank as a whole.
    - ``'auto'``: ``'native'`` on the CPU and ``'triton'`` on CUDA devices if they can be used,
      ``'torch'`` otherwise. The Triton kernels must pass a self-test first (:mod:`.self_test`),
      and are not used with ``torch.use_deterministic_algorithms(True)``.

    Args:
        query (Tensor): Float, shape ``(B, D)``; unit rows make the inner product the cosine.
        bank (Tensor | BankRows): Float (any width), shape ``(N, D)``, on the device of ``query``,
            or rows held elsewhere.
        m (int): Rows to find for each query, 1 to N, or to N - 1 with ``exclude``.
        exclude (Tensor, optional): int64, shape ``(B,)``, one row of the bank that each query
            must not find. Defaults to None, find any row.
        labels (tuple[Tensor, Tensor], optional): Integer labels of the queries, shape ``(B,)``,
            and of the rows of the bank, shape ``(N,)``, of one type: queries find only rows of
            another label than their own. Where these are fewer than ``m``, the rest of the result
            has the similarity -inf and arbitrary rows. Defaults to None, find any row.
        sort (bool): Whether to return them in descending order; if not, in any order. Defaults to
            True.
        max_elements (int, optional): Similarities held at a time. Defaults to None: 2**21
            (8 MiB) on the CPU, 2**24 elsewhere.
        backend (str): How to search. Defaults to ``'auto'``.

    Returns:
        Neighbours: The named pair ``(similarity, index)``, float32 and int64, both ``(B, m)``.

    Raises:
        ValueError: If the shapes do not fit, ``m`` is out of range, or the backend is unknown or
            cannot be used here.

    Example:
        >>> bank = torch.eye(4)
        >>> found = top_m(torch.tensor([[0.8, 0.6, 0.0, 0.0]]), bank, m=2)
        >>> found.similarity, found.index
        (tensor([[0.8000, 0.6000]]), tensor([[0, 1]]))
    """
    max_elements = max_elements or default_elements(bank.device)
    request = Request(query, bank, m, exclude, labels, max_elements)
    _check(request)
    found = search_rows(request, backend)
    return sort_descending(found) if sort else found


def search_rows(request: Request, backend: str) -> Neighbours:
    """Search without checks; the rows are in any order."""
    if isinstance(request.bank, BankRows):
        return request.bank.search(request, backend)
    module = import_module(f'.{_choose(backend, request)}', __name__)
    with disable_autocast(request.bank.device):
        found = module.search(request) if len(request.query) else None
        return found or torch_blocks.search_blocks(request)


def _check(request: Request) -> None:
    """Raise unless all parts of a request fit; reads no values, which would synchronise."""
    query, bank, exclude, labels = request.query, request.bank, request.exclude, request.labels
    require_features('bank', bank)
    require_features('query', query, bank.size(1))
    if exclude is not None:
        require_length('exclude', exclude, len(query), 'query')
    if labels is not None:
        if not isinstance(labels, tuple) or len(labels) != 2:
            raise ValueError(
                f'labels must be the pair (query_label, bank_label), found {type(labels).__name__} '
                f'of length {len(labels)}.'
            )
        require_length('query_label', labels[0], len(query), 'query')
        require_length('bank_label', labels[1], len(bank), 'row of the bank')
    others = len(bank) if exclude is None else len(bank) - 1
    require_range('m', request.m, 1, others, f'each query has {others} rows of the bank to find')


def _choose(name: str, request: Request) -> str:
    """Return the module of a backend that can serve the request."""
    check_option('top_m', 'backend', name, BackendName)
    if name == 'auto':
        return BACKENDS[_automatic(request)].module
    reason = BACKENDS[name].unsupported_reason(request)
    if reason is not None:
        usable = [key for key in BACKENDS if BACKENDS[key].unsupported_reason(request) is None]
        raise ValueError(
            f'backend = {name!r} cannot be used: {reason}. '
            f'Usable here: {", ".join(map(repr, ["auto", *usable]))}.'
        )
    return BACKENDS[name].module


def _automatic(request: Request) -> str:
    name = PREFERRED.get(request.bank.device.type, 'torch')
    if BACKENDS[name].unsupported_reason(request):
        return 'torch'
    if name == 'triton':
        # The kernels write the rows in the order in which the programs of the GPU finish.
        varies = torch.are_deterministic_algorithms_enabled()
        passed = self_test.passed(request.bank.device, request.bank.dtype)
        return name if passed and not varies else 'torch'
    return name
