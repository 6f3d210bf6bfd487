"""Similarities of a query with chosen rows of the bank, or with all of them, with a gradient.

The bank is a constant for autograd: gradients flow to the query alone, so backward needs the
weighted sum of the rows that were read and never a B x N matrix.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .search import BankRows, default_elements, native, similarities
from .search.self_test import gpu_kernels

# Below all similarities, and far from the limits of float32 also after division by a temperature.
LOWEST = -1e30


class _GatheredSimilarity(Function):
    """``query[b] . bank[index[b, j]]`` in PyTorch; ``known`` saves the forward arithmetic."""

    @staticmethod
    def forward(
        ctx, query: Tensor, bank: Tensor | BankRows, index: Tensor, known: Tensor | None
    ) -> Tensor:
        _save(ctx, bank, index)
        ctx.query_dtype = query.dtype
        return gathered_products(query, bank, index) if known is None else known.view_as(known)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        bank, index = _saved(ctx)
        return weighted_rows(grad, bank, index).to(ctx.query_dtype), None, None, None


def _save(ctx, bank: Tensor | BankRows, *tensors: Tensor) -> None:
    """Save for backward; autograd checks that a tensor does not change until then."""
    ctx.rows = None if isinstance(bank, Tensor) else bank
    ctx.save_for_backward(bank if ctx.rows is None else None, *tensors)


def _saved(ctx) -> tuple[Any, ...]:
    bank, *tensors = ctx.saved_tensors
    return bank if ctx.rows is None else ctx.rows, *tensors


def gathered_products(query: Tensor, bank: Tensor | BankRows, index: Tensor) -> Tensor:
    """``query[b] . bank[index[b, j]]`` without a gradient, float32, ``(B, M)``.

    The rows of a few queries are read at a time: never all B x M x D values at once.
    """
    if isinstance(bank, BankRows):
        return bank.products(query, index)
    if bank.dtype == torch.float32 and native.serves(bank):
        return native.gathered_products(query, bank, index)
    out = torch.empty(index.shape, dtype=torch.float32, device=query.device)
    for block in _query_blocks(index, bank.size(1)):
        rows = bank.index_select(0, index[block].flatten()).float()
        product = rows.view(*index[block].shape, -1).mul_(query[block, None].float())
        torch.sum(product, dim=2, out=out[block])
    return out


def weighted_rows(weight: Tensor, bank: Tensor | BankRows, index: Tensor) -> Tensor:
    """``sum_j weight[b, j] * bank[index[b, j]]`` in float32, shape ``(B, D)``."""
    if isinstance(bank, BankRows):
        return bank.weighted_sum(weight, index)
    if bank.dtype == torch.float32:
        if native.serves(bank):
            return native.weighted_rows(weight, bank, index)
        return F.embedding_bag(index, bank, per_sample_weights=weight.float(), mode='sum')
    out = torch.empty((len(index), bank.size(1)), dtype=torch.float32, device=bank.device)
    for block in _query_blocks(index, bank.size(1)):
        torch.bmm(weight[block, None].float(), bank[index[block]].float(), out=out[block, None])
    return out


def _query_blocks(index: Tensor, dim: int) -> list[slice]:
    step = max(default_elements(index.device) // max(index.size(1) * dim, 1), 1)
    return [slice(start, start + step) for start in range(0, len(index), step)]


def bank_similarity(
    query: Tensor, bank: Tensor | BankRows, index: Tensor, known: Tensor | None = None
) -> Tensor:
    """Inner product of each query with the rows of the bank that ``index`` names.

    Memory is O(B * M): the backward sums the rows as it reads them, it keeps none.

    Args:
        query (Tensor): Float, shape ``(B, D)``; the gradient flows here and nowhere else.
        bank (Tensor | BankRows): Float, shape ``(N, D)``, unchanged until backward has run.
        index (Tensor): int64, shape ``(B, M)``.
        known (Tensor, optional): float32, shape ``(B, M)``: these very similarities where a
            search has already computed them. Defaults to None, compute them.

    Returns:
        Tensor: float32, shape ``(B, M)``.

    Example:
        >>> bank_similarity(torch.tensor([[0.6, 0.8]]), torch.eye(2), torch.tensor([[1, 0]]))
        tensor([[0.8000, 0.6000]])
    """
    kernels = gpu_kernels(bank) if isinstance(bank, Tensor) else None
    function = kernels.GatheredSimilarity if kernels else _GatheredSimilarity
    return function.apply(query, _detached(bank), index, known)


def _detached(bank: Tensor | BankRows) -> Tensor | BankRows:
    return bank.detach() if isinstance(bank, Tensor) else bank


class _MaskedLogSumExp(Function):
    """Keeps the exponentials, so that its backward is one product."""

    @staticmethod
    def forward(ctx, similarity: Tensor, masked: Tensor | None, temperature: float) -> Tensor:
        in_c = native.serves(similarity)
        exponentials = native.masked_exponentials if in_c else _masked_exponentials
        exps, highest, total = exponentials(similarity, masked, temperature)
        ctx.save_for_backward(exps, total)
        ctx.temperature = temperature
        return torch.add(total.log(), highest, alpha=1 / temperature)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        exps, total = ctx.saved_tensors
        # The highest entry adds 1 to the sum, which is below that only where all are masked.
        scale = grad / total.clamp(min=1).mul_(ctx.temperature)
        return exps * scale[:, None], None, None


def _masked_exponentials(
    similarity: Tensor, masked: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`.native.masked_exponentials`, in PyTorch."""
    copy = None if masked is None else similarity.masked_fill(masked, -torch.inf)
    similarity = similarity if copy is None else copy
    # Finite also where all of a row is masked: -inf less -inf is no number.
    highest = similarity.amax(dim=1, keepdim=True).clamp_(min=LOWEST)
    exps = torch.sub(similarity, highest, out=copy).div_(temperature).exp_()
    return exps, highest.squeeze(1), exps.sum(dim=1)


def masked_logsumexp(similarity: Tensor, masked: Tensor | None, temperature: float) -> Tensor:
    """``log sum_j exp(similarity[b, j] / temperature)`` over the entries that are not masked.

    ``similarity``, float32, ``(B, M)``, is unchanged until backward has run; ``masked`` is bool of
    this shape. The result is float32, ``(B,)``; a row with all entries masked gives -inf and no
    gradient.
    """
    return _MaskedLogSumExp.apply(similarity, masked, temperature)


class _FullLogSumExp(Function):
    """log sum_n exp(query . bank_n / temperature) over the whole bank, in blocks."""

    @staticmethod
    def forward(
        ctx, query: Tensor, bank: Tensor | BankRows, temperature: float, columns: int
    ) -> Tensor:
        total = bank_logsumexp(query, bank, temperature, columns)
        _save(ctx, bank, query, total)
        ctx.temperature, ctx.columns = temperature, columns
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        bank, query, total = _saved(ctx)
        weighted = softmax_sum(query, bank, total, ctx.temperature, ctx.columns)
        weighted *= grad[:, None] / ctx.temperature
        return weighted.to(query.dtype), None, None, None


def bank_logsumexp(
    query: Tensor, bank: Tensor | BankRows, temperature: float, columns: int
) -> Tensor:
    """:func:`full_logsumexp` without a gradient, ``columns`` rows of the bank at a time."""
    if isinstance(bank, BankRows):
        return bank.logsumexp(query, temperature, columns)
    return logsumexp_blocks(query, bank.split(columns), temperature)


def softmax_sum(
    query: Tensor, bank: Tensor | BankRows, total: Tensor, temperature: float, columns: int
) -> Tensor:
    """Sum of the rows by their share in ``total``, from :func:`bank_logsumexp`, ``(B, D)``."""
    if isinstance(bank, BankRows):
        return bank.softmax_sum(query, total, temperature, columns)
    return softmax_sum_blocks(query, bank.split(columns), total, temperature)


def logsumexp_blocks(query: Tensor, blocks: Iterable[Tensor], temperature: float) -> Tensor:
    """``log sum_n exp(query . bank_n / temperature)`` over the blocks of a bank, ``(B,)``."""
    total = query.new_full((len(query),), -torch.inf, dtype=torch.float32)
    for block in blocks:
        logits = similarities(query, block).div_(temperature)
        total = torch.logaddexp(total, logits.logsumexp(dim=1))
    return total


def softmax_sum_blocks(
    query: Tensor, blocks: Iterable[Tensor], total: Tensor, temperature: float
) -> Tensor:
    """``sum_n exp(query . bank_n / temperature - total) * bank_n`` over the blocks, ``(B, D)``."""
    weighted = torch.zeros(query.shape, dtype=torch.float32, device=query.device)
    for block in blocks:
        logits = similarities(query, block).div_(temperature)
        weight = logits.sub_(total[:, None]).exp_()
        weighted.addmm_(weight, block.float())
    return weighted


def full_logsumexp(
    query: Tensor, bank: Tensor | BankRows, temperature: float, *, max_elements: int | None = None
) -> Tensor:
    """``log sum_n exp(s_in / temperature)`` over all N rows, for losses without hard negatives.

    Streams over the bank forward and backward, so memory is bounded by ``max_elements``.

    Args:
        query (Tensor): Float, shape ``(B, D)``; the gradient flows here and nowhere else.
        bank (Tensor | BankRows): Float, shape ``(N, D)``, unchanged until backward has run.
        temperature (float): Positive.
        max_elements (int, optional): Similarities held at a time, see :func:`top_m`.

    Returns:
        Tensor: float32, shape ``(B,)``.

    Example:
        >>> full_logsumexp(torch.tensor([[1.0, 0.0]]), torch.eye(2), temperature=1.0)
        tensor([1.3133])
    """
    limit = max_elements or default_elements(bank.device)
    columns = max(limit // max(len(query), 1), 1)
    return _FullLogSumExp.apply(query, _detached(bank), temperature, columns)
