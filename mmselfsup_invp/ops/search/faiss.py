"""Exact search by faiss, as its ``IndexFlatIP``, without an index that copies the bank."""

import functools
from importlib.util import find_spec
from typing import Any

import torch

from .request import Neighbours, Request

# The most neighbours that the GPU search of faiss returns.
GPU_NEIGHBOURS = 2048


def unsupported_reason(request: Request) -> str | None:
    """Return why faiss cannot serve a request, as a clause; None if it can."""
    bank = request.bank
    if request.labels is not None:
        return 'it cannot hide rows by their labels'
    if bank.device.type not in ('cpu', 'cuda'):
        return f'the bank is on {bank.device}, it searches on the CPU and on CUDA devices'
    if find_spec('faiss') is None:
        return 'faiss is not installed (faiss-cpu or faiss-gpu)'
    return _gpu_unsupported_reason(_width(request)) if bank.is_cuda else None


def _gpu_unsupported_reason(width: int) -> str | None:
    import faiss

    if not hasattr(faiss, 'StandardGpuResources'):
        return 'the bank is on a GPU and faiss was built without GPUs (faiss-gpu has them)'
    if width > GPU_NEIGHBOURS:
        return f'on GPUs it finds at most {GPU_NEIGHBOURS} rows, asked for {width}'
    return None


def _width(request: Request) -> int:
    """One row more than requested if one is excluded, which is dropped afterwards."""
    return request.m + (request.exclude is not None)


def search(request: Request) -> Neighbours | None:
    """Search the whole bank in float32, in any order; None where NaN makes rows missing."""
    import faiss

    query, bank = (part.detach().float().contiguous() for part in (request.query, request.bank))
    width, metric = _width(request), faiss.METRIC_INNER_PRODUCT
    if bank.is_cuda:
        import faiss.contrib.torch_utils  # noqa: F401 Lets faiss read tensors.

        device = bank.device.index
        resources = _gpu_resources(device)
        with faiss.contrib.torch_utils.using_stream(resources):
            similarity, index = faiss.knn_gpu(
                resources, query, bank, width, metric=metric, device=device
            )
    else:
        found = faiss.knn(query.numpy(), bank.numpy(), width, metric=metric)
        similarity, index = map(torch.from_numpy, found)
    if (index < 0).any():
        return None
    if request.exclude is not None:
        similarity.masked_fill_(index == request.exclude[:, None], -torch.inf)
        similarity, kept = similarity.topk(request.m, dim=1)
        index = index.gather(1, kept)
    return Neighbours(similarity, index)


@functools.cache
def _gpu_resources(device: int) -> Any:
    """Scratch memory of faiss, created once for each device."""
    import faiss

    with torch.cuda.device(device):
        return faiss.StandardGpuResources()
