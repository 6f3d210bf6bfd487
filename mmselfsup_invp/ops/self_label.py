"""Loss, initial labels and relabelling schedule of SeLa.

`Self-labelling via simultaneous clustering and representation learning
<https://arxiv.org/abs/1911.05371>`_.
"""

import math
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..options import MAX_INT, Choice, Range, check_option
from .checks import require_range


class Spacing(NamedTuple):
    """Distribution of the relabelling events of the official code over E epochs.

    Attributes:
        power (int): Event j of n is at the fraction ``(j / (n - 1)) ** power`` of the schedule.
        surplus (float): Epochs by which the last event exceeds E.
        extra_epochs (int): Epochs that the official loop trains in addition to E.
    """

    power: int
    surplus: float
    extra_epochs: int


SPACINGS = {
    'power': Spacing(power=2, surplus=1.01, extra_epochs=1),
    'linear': Spacing(power=1, surplus=1.0001, extra_epochs=0),
}
SpacingName = Annotated[str, Choice(SPACINGS)]
NumEvents = Annotated[int, Range(2, MAX_INT)]  # The first and the last.


def self_label_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Compute the cross entropy of each head with its labels, averaged over heads and images.

    Args:
        logits (Tensor): Float, shape ``(B, H, K)``, of H heads with K classes.
        label (Tensor): int64, shape ``(B, H)``.

    Returns:
        Tensor: A scalar.

    Example:
        >>> logits = torch.tensor([[[2.0, 0.0, -1.0], [0.5, 1.5, -torch.inf]]])
        >>> self_label_loss(logits, torch.tensor([[0, 0]]))
        tensor(0.7416)
    """
    return F.cross_entropy(logits.flatten(0, 1), label.flatten())


def initial_labels(
    num_images: int, num_classes: int, num_heads: int = 1, generator: torch.Generator | None = None
) -> Tensor:
    """Draw random labels with classes of equal size, int64, ``(N, H)``, for each head anew.

    ``i mod K`` in a random order, as in the official code. Fewer images than classes raise
    ``ValueError``.
    """
    why = f'{num_images} images cannot fill more classes'
    require_range('num_classes', num_classes, 1, num_images, why)
    order = [torch.randperm(num_images, generator=generator) for _ in range(num_heads)]
    return (torch.arange(num_images) % num_classes)[torch.stack(order, dim=1)]


def relabel_times(
    num_images: int, epochs: float, num_events: int, spacing: str = 'power'
) -> list[float]:
    """Compute when the official code relabels the images, in images seen.

    Args:
        num_images (int): N.
        epochs (float): E, its argument ``--epochs``.
        num_events (int): n, at least 2.
        spacing (str): ``'power'`` is ``(E + 1.01) N (j / (n - 1))^2``, dense at the start
            (ImageNet); ``'linear'`` is ``(E + 1.0001) N j / (n - 1)`` (CIFAR). Defaults to
            ``'power'``.

    Returns:
        list[float]: The times of events j = 0 to n - 1.
    """
    check_option('relabel_times', 'spacing', spacing, SpacingName)
    check_option('relabel_times', 'num_events', num_events, NumEvents)
    power, surplus, _ = SPACINGS[spacing]
    end = (epochs + surplus) * num_images
    return [end * (event / (num_events - 1)) ** power for event in range(num_events)]


def relabel_iterations(times: list[float], batch_size: int) -> list[int]:
    """Convert the times of events to iterations, counted from 0, with at most one event each.

    As in the official code, an event is due when ``iteration * batch_size``, over all processes,
    reaches its time, and is delayed to the next iteration if its own already has an event. The last
    batch of an epoch counts as a full one, so that events occur early if it is smaller.
    """
    iterations: list[int] = []
    for time in times:
        due = math.ceil(time / batch_size)
        iterations.append(max(due, iterations[-1] + 1) if iterations else due)
    return iterations
