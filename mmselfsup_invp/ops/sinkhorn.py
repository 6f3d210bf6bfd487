"""Labels for all images such that every class gets its share: Sinkhorn-Knopp in the log domain.

A sweep reads the log-probabilities ``(N, K)`` once, in blocks of rows, and holds nothing of their
size. They may also come from a function that computes them anew for every sweep.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .checks import require_choice, require_features, require_positive, require_range
from .clustering import cluster_sizes
from .search import DEVICE_ELEMENTS

Source = Callable[[], Iterable[Tensor]]
# Rows of log-probabilities, all at once or block by block, in the same order at every call.
LogProb = Tensor | Source

CRITERIA = ('relative', 'official')
# Entries of a block on the CPU unless told otherwise.
CPU_BLOCK = 2**18
# Passes between two looks at the error in the official code.
OFFICIAL_STRIDE = 10


@dataclass
class SinkhornInfo:
    """How the solution was found and what it is like.

    Attributes:
        iterations (int): Passes, each one scaling of the classes and one of the images.
        errors (tuple[float, ...]): The error each time it was measured.
        converged (bool): Whether the last of them is within the tolerance.
        cost (float): Mean of ``-log p`` of the labels.
        sizes (Tensor): int64, shape ``(K,)``, images of each class.

    Example:
        >>> SinkhornInfo(2, (0.5, 0.01), True, 0.7, torch.tensor([3, 3])).error
        0.01
    """

    iterations: int
    errors: tuple[float, ...]
    converged: bool
    cost: float
    sizes: Tensor

    @property
    def error(self) -> float:
        """The error at the end."""
        return self.errors[-1]


class Scaling(NamedTuple):
    """The state of the iteration: see :func:`scale_classes`."""

    log_class: Tensor
    iterations: int
    errors: tuple[float, ...]
    converged: bool


@torch.no_grad()
def sinkhorn_labels(
    log_prob: LogProb,
    lambd: float = 25.0,
    tol: float = 1e-2,
    max_iter: int = 1000,
    *,
    criterion: str = 'relative',
    balanced: bool = False,
    max_elements: int | None = None,
) -> tuple[Tensor, SinkhornInfo]:
    """Label all images by their classes' probabilities under the rule that classes are equal.

    Self-labelling (`arXiv:1911.05371 <https://arxiv.org/abs/1911.05371>`_, section 3.2): of the
    plans Q, one row an image and one column a class, with row sums 1/N and column sums 1/K, find
    the one near the smallest mean ``-log p`` that is ``diag(c) P^lambd diag(r)``. The label of
    an image is the largest entry of its row (the first of equal ones), so classes come out equal
    only as far as the plan is decided; ``balanced`` makes them so.

    Args:
        log_prob (Tensor | Callable): Float, shape ``(N, K)``: ``log_softmax`` of the logits, not
            the logarithm of probabilities that may have become 0. Or a function without arguments
            that gives blocks of its rows, in the same order at each call. float64 is computed in
            float64, the rest in float32; sums over images are always in float64.
        lambd (float): lambda, positive; larger is closer to the exact assignment and takes
            more passes. Defaults to 25 (the official code on ImageNet; 10 on CIFAR).
        tol (float): Error at which to stop. Defaults to 1e-2.
        max_iter (int): Passes at most. Defaults to 1000.
        criterion (str): ``'relative'``: mean over the classes of ``|K * column sum - 1|``, the
            share of the images that would have to be added or taken away; it does not depend on
            N. ``'official'``: the sum over the images of ``|c / c_new - 1|``, measured in the
            first pass and then in every tenth, as the official code does with a tolerance of 0.1
            (ImageNet) or 0.01 (CIFAR); it becomes stricter as N grows. Defaults to
            ``'relative'``.
        balanced (bool): Whether to round to sizes of floor(N / K) and ceil(N / K) exactly, see
            :func:`_round_balanced`. Defaults to False.
        max_elements (int, optional): Entries of a block where ``log_prob`` is a tensor. Defaults
            to None: 2**18 on the CPU (1 MiB, which its caches hold), 2**24 elsewhere.

    Returns:
        tuple[Tensor, SinkhornInfo]: Labels, int64, shape ``(N,)``, on the device of the
        log-probabilities; what is worth knowing about them.

    Raises:
        ValueError: If entries are not finite, there are fewer images than classes, or an option
            is outside its valid values.

    Example:
        >>> prob = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
        >>> label, info = sinkhorn_labels(prob.log())
        >>> label.tolist(), info.sizes.tolist(), round(info.cost, 4)
        ([0, 0, 1, 1], [2, 2], 0.6122)
    """
    require_choice('criterion', criterion, CRITERIA)
    require_range('max_iter', max_iter, 1, 2**31, 'there is no solution without a pass')
    require_positive('lambd', lambd, '25')
    require_positive('tol', tol, '0.01')
    source = _source(log_prob, max_elements)
    scaling = scale_classes(source, lambd, tol, max_iter, criterion)
    rule = _round_balanced if balanced else _round_argmax
    label = rule(source, lambd, scaling.log_class)
    cost = _mean_cost(source, label)
    sizes = cluster_sizes(label, len(scaling.log_class))
    return label, SinkhornInfo(*scaling[1:], cost, sizes)


def _source(log_prob: LogProb, max_elements: int | None) -> Source:
    """Make a function that gives blocks of rows: float64 where they are, else float32."""
    if isinstance(log_prob, Tensor):
        whole = log_prob
        require_features('log_prob', whole)
        limit = max_elements or (CPU_BLOCK if whole.device.type == 'cpu' else DEVICE_ELEMENTS)
        rows = max(limit // max(whole.size(1), 1), 1)
        log_prob = lambda: whole.split(rows)  # noqa: E731
    return lambda: (
        block if block.dtype == torch.float64 else block.float() for block in log_prob()
    )


def scale_classes(
    source: Source, lambd: float, tol: float, max_iter: int, criterion: str
) -> Scaling:
    """Find the scale of each class in the plan.

    With log r the plan is ``softmax(lambd * log_prob + log_r, dim=1) / N``: the scale of an
    image is what makes its row sum to 1/N. So a pass is one sweep: the column sums s of the plan
    give the error and the next scale, ``r <- r / (K s)``.

    These sums do not underflow, whatever the lambd. The first r makes every column of
    ``P^lambd diag(r) / N`` sum to 1/K, by a log-sum-exp, so that no row of it sums to more
    than 1: normalising the rows only raises the entries. Hence s is at least 1 / (K N), then and,
    by the same argument, in every later pass.

    Args:
        source (Callable): Gives the blocks of rows.
        lambd, tol, max_iter, criterion: See :func:`sinkhorn_labels`.

    Returns:
        Scaling: log r, float64, shape ``(K,)``, with the errors on the way.
    """
    log_class, num_images = _first_scale(source, lambd)
    # log(N c); the official iteration starts with c = 1/N for every image.
    log_image = log_class.new_zeros(num_images if criterion == 'official' else 0)
    errors: list[float] = []
    for iteration in range(1, max_iter + 1):
        total, new_image = _sweep(source, lambd, log_class, criterion == 'official')
        share = total * (len(log_class) / num_images)
        if criterion == 'relative':
            errors.append((share - 1).abs().mean().item())
        elif iteration % OFFICIAL_STRIDE == 1:
            errors.append((log_image - new_image).expm1().abs().sum().item())
        log_image = new_image
        if errors[-1] <= tol:
            break
        if iteration < max_iter:
            log_class = log_class - share.log()
    return Scaling(log_class, iteration, tuple(errors), errors[-1] <= tol)


def _first_scale(source: Source, lambd: float) -> tuple[Tensor, int]:
    """Check the log-probabilities; log r where the scale of every image is 1/N; and N."""
    totals, finite, num_images = [], [], 0
    for block in source():
        require_features('log_prob', block)
        totals.append((block * lambd).logsumexp(dim=0).double())
        finite.append(block.isfinite().all())
        num_images += len(block)
    num_classes = len(totals[0]) if totals else 0
    if not 1 <= num_classes <= num_images:
        raise ValueError(
            f'{num_images} images cannot be shared equally among K = {num_classes} classes: K '
            f'must be 1 to {num_images}.'
        )
    if not torch.stack(finite).all():
        raise ValueError(
            'The log-probabilities hold NaN or Inf. NaN: the network has diverged, try a lower '
            'learning rate. Inf: give log_softmax of the logits, not the logarithm of a softmax, '
            'which may be 0.'
        )
    share = num_classes / num_images
    return -(torch.stack(totals).logsumexp(dim=0) + math.log(share)), num_images


def _sweep(
    source: Source, lambd: float, log_class: Tensor, want_images: bool
) -> tuple[Tensor, Tensor]:
    """N times the column sums of the plan, ``(K,)``, and log(N c), ``(N,)`` or empty; float64."""
    total = torch.zeros_like(log_class)
    log_image = [log_class.new_empty(0)]
    for logits in _scaled(source, lambd, log_class):
        total += logits.softmax(dim=1).sum(dim=0).double()
        if want_images:
            log_image.append(-logits.logsumexp(dim=1).double())
    return total, torch.cat(log_image)


def _scaled(source: Source, lambd: float, log_class: Tensor) -> Iterator[Tensor]:
    """Blocks of ``lambd * log_prob + log_r``."""
    for block in source():
        yield torch.add(log_class.to(block.dtype), block, alpha=lambd)


def _round_argmax(source: Source, lambd: float, log_class: Tensor) -> Tensor:
    """The largest entry of each row of the plan, the first of equal ones; int64, ``(N,)``."""
    return torch.cat([logits.argmax(dim=1) for logits in _scaled(source, lambd, log_class)])


def _round_balanced(source: Source, lambd: float, log_class: Tensor) -> Tensor:
    """Labels with class sizes of floor(N / K) and ceil(N / K); int64, ``(N,)``.

    The N mod K classes with most images by :func:`_round_argmax` take ceil(N / K). In rounds,
    each image without a label asks for the class with the largest entry of its row among those
    that have room. A class with too little room takes the images that would lose most by their
    next best choice (of equals, those that come first) and is then full. With a plan that is
    close to its limit, few images need a second round; where all rows are equal there are K.

    This need not be the cheapest such assignment: on random problems with N a multiple of K its
    cost is a few percent above at most. Otherwise, with few images a class, the choice of the
    larger classes may cost more.
    """
    label = _round_argmax(source, lambd, log_class)
    room = _room(label, len(log_class))
    label.fill_(-1)
    while (label < 0).any():
        image = (label < 0).nonzero().squeeze(1)
        wish, loss = _wishes(source, lambd, log_class.masked_fill(room == 0, -torch.inf), image)
        taken = _served(wish, loss, room)
        label[image[taken]] = wish[taken]
        room -= cluster_sizes(wish[taken], len(room))
    return label


def _room(label: Tensor, num_classes: int) -> Tensor:
    """How many images each class takes, int64, ``(K,)``."""
    size = cluster_sizes(label, num_classes)
    room = torch.full_like(size, len(label) // num_classes)
    room[size.argsort(descending=True, stable=True)[: len(label) % num_classes]] += 1
    return room


def _wishes(
    source: Source, lambd: float, log_class: Tensor, image: Tensor
) -> tuple[Tensor, Tensor]:
    """The best class of these images and what the second best would cost them, both ``(M,)``."""
    start, found = 0, []
    for block in source():
        inside = image[(image >= start) & (image < start + len(block))] - start
        start += len(block)
        logits = torch.add(log_class.to(block.dtype), block[inside], alpha=lambd)
        best, wish = logits.max(dim=1)
        second = logits.scatter_(1, wish[:, None], -torch.inf).amax(dim=1)
        found.append((wish, best - second))
    wish, loss = (torch.cat(part) for part in zip(*found, strict=True))
    return wish, loss


def _served(wish: Tensor, loss: Tensor, room: Tensor) -> Tensor:
    """Which images get their wish, bool, ``(M,)``: of each class those that would lose most."""
    order = loss.argsort(descending=True, stable=True)
    order = order[wish[order].argsort(stable=True)]
    count = cluster_sizes(wish, len(room))
    place = torch.arange(len(wish), device=wish.device) - (count.cumsum(0) - count)[wish[order]]
    served = torch.empty_like(wish, dtype=torch.bool)
    served[order] = place < room[wish[order]]
    return served


def _mean_cost(source: Source, label: Tensor) -> float:
    """Mean of ``-log p`` of the labels."""
    total, start = torch.zeros((), dtype=torch.float64, device=label.device), 0
    for block in source():
        own = block.gather(1, label[start : start + len(block), None])
        total -= own.sum(dtype=torch.float64)
        start += len(block)
    return total.item() / len(label)
