"""Exact search by faiss, what its ``IndexFlatIP`` does, without an index that copies the bank."""

import functools
from importlib.util import find_spec

import torch
from torch import Tensor

# The most neighbours that the GPU search of faiss gives.
GPU_NEIGHBOURS = 2048


def flat_obstacle(bank: Tensor, neighbours: int) -> str | None:
    """Say why faiss cannot search a bank; None if it can.

    Args:
        bank (Tensor): Shape ``(N, D)``.
        neighbours (int): How many it is asked for.

    Returns:
        str | None: The reason, a clause.

    Example:
        >>> flat_obstacle(torch.ones(1, 2, device='meta'), 1)
        'the bank is on meta, it searches on the CPU and on CUDA devices'
    """
    if bank.device.type not in ('cpu', 'cuda'):
        return f'the bank is on {bank.device}, it searches on the CPU and on CUDA devices'
    if find_spec('faiss') is None:
        return 'faiss is not installed (faiss-cpu or faiss-gpu)'
    if bank.is_cuda:
        return _gpu_obstacle(neighbours)
    return None


def _gpu_obstacle(neighbours: int) -> str | None:
    import faiss

    if not hasattr(faiss, 'StandardGpuResources'):
        return 'the bank is on a GPU and faiss was built without GPUs (faiss-gpu has them)'
    if neighbours > GPU_NEIGHBOURS:
        return f'on GPUs it finds at most {GPU_NEIGHBOURS} rows, asked for {neighbours}'
    return None


def flat_search(query: Tensor, bank: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    """Find the rows of the bank with the highest inner product with each query.

    A bank of another type is converted to float32 as a whole.

    Args:
        query (Tensor): Float, shape ``(B, D)``, at least one.
        bank (Tensor): Float, shape ``(N, D)``.
        neighbours (int): 1 to N.

    Returns:
        tuple[Tensor, Tensor]: Similarity, float32, and row, int64, ``(B, neighbours)``,
        descending. -1 stands for rows that are missing because of NaN.
    """
    query, bank = (part.detach().float().contiguous() for part in (query, bank))
    return (_gpu_search if bank.is_cuda else _cpu_search)(query, bank, neighbours)


def _cpu_search(query: Tensor, bank: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    import faiss

    found = faiss.knn(query.numpy(), bank.numpy(), neighbours, metric=faiss.METRIC_INNER_PRODUCT)
    return tuple(map(torch.from_numpy, found))


def _gpu_search(query: Tensor, bank: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    import faiss
    import faiss.contrib.torch_utils  # noqa: F401 It lets faiss read tensors.

    resources = _gpu_resources(bank.device.index)
    with faiss.contrib.torch_utils.using_stream(resources):
        return faiss.knn_gpu(
            resources, query, bank, neighbours,
            metric=faiss.METRIC_INNER_PRODUCT, device=bank.device.index,
        )  # fmt: skip


@functools.cache
def _gpu_resources(device: int) -> object:
    """Scratch memory of faiss, made once for each device."""
    import faiss

    with torch.cuda.device(device):
        return faiss.StandardGpuResources()
