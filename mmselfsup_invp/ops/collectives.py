"""Exchange of tensors between the processes of the default group of ``torch.distributed``.

Every process calls a function with a tensor of the same shape and type. Without a group, a process
is alone and receives what it gave. A gradient flows through ``gather_with_gradient`` alone.
"""

import torch
from torch import Tensor, distributed


def world_size() -> int:
    """Number of processes W; 1 without a group."""
    ready = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if ready else 1


def rank() -> int:
    """Number of this process, from 0."""
    return distributed.get_rank() if world_size() > 1 else 0


@torch.no_grad()
def gather(part: Tensor) -> Tensor:
    """Concatenate the tensors ``(B, ...)`` of all processes in their order, ``(W * B, ...)``."""
    if world_size() == 1:
        return part
    part = part.contiguous()
    parts = [torch.empty_like(part) for _ in range(world_size())]
    distributed.all_gather(parts, part)
    return torch.cat(parts)


def gather_with_gradient(part: Tensor) -> Tensor:
    """As :func:`gather`; the gradient of a part is the sum of those in all processes."""
    if world_size() == 1:
        return part
    # Not part of builds of PyTorch without processes.
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(part.contiguous()))


@torch.no_grad()
def exchange(parts: Tensor) -> Tensor:
    """Send the r-th of W parts of a tensor ``(W * B, ...)`` to process r.

    Returns what each process sent to this one, ``(W, B, ...)``.
    """
    count = world_size()
    shape = (count, len(parts) // count, *parts.shape[1:])
    if count == 1:
        return parts.view(shape)
    received = torch.empty(shape, dtype=parts.dtype, device=parts.device)
    distributed.all_to_all_single(received.view(parts.shape), parts.contiguous())
    return received


@torch.no_grad()
def total(part: Tensor) -> Tensor:
    """Sum the tensors of all processes; the same on each."""
    if world_size() == 1:
        return part
    result = part.clone()
    distributed.all_reduce(result)
    return result


def mean(part: Tensor) -> Tensor:
    """Average the tensors of all processes, float."""
    return total(part.float()) / world_size()


def mean_where(counted: Tensor, loss: Tensor) -> Tensor:
    """Mean loss, a scalar, of the images of all processes that count; 0 if none does.

    It is the share of this process times their number, so that the gradients, which DDP averages,
    are those of the mean over all.

    Args:
        counted (Tensor): bool, shape ``(B,)``.
        loss (Tensor): Float, shape ``(B,)``.
    """
    number = mean(counted.sum()).clamp(min=1 / world_size())
    return loss.masked_fill(~counted, 0).sum() / number
