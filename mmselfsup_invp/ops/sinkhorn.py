"""Labels with classes of equal size: Sinkhorn-Knopp in the log domain.

A sweep reads the log-probabilities ``(N, K)`` once, in blocks of rows, and allocates nothing of
their size. A function may compute the blocks again for every sweep.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..options import PositiveFloat, PositiveInt, check_option
from .checks import require_features
from .clustering import cluster_sizes
from .rounding import round_argmax, round_balanced, scaled_blocks
from .search import default_elements

Source = Callable[[], Iterable[Tensor]]
# Rows of log-probabilities, as one tensor or in blocks, in the same order at every call.
LogProb = Tensor | Source

Criterion = Literal['relative', 'official']
# Default entries of a block on the CPU; 1 MiB fits its caches.
CPU_BLOCK = 2**18
# The official code measures the error in every tenth pass.
OFFICIAL_INTERVAL = 10
# Entries of a row that are smaller than its largest by more than this factor, a logarithm, do not
# change the sums. Their exponentials would be denormal numbers, which processors handle slowly.
NEGLIGIBLE = 70


@dataclass
class SinkhornInfo:
    """Convergence and quality of a solution.

    Attributes:
        iterations (int): Passes, each one scaling of the classes and one of the images.
        errors (tuple[float, ...]): The measured errors.
        converged (bool): Whether the last error is within the tolerance.
        cost (float): Mean of ``-log p`` of the labels.
        sizes (Tensor): int64, shape ``(K,)``, images of each class.
    """

    iterations: int
    errors: tuple[float, ...]
    converged: bool
    cost: float
    sizes: Tensor

    @property
    def error(self) -> float:
        """The last error."""
        return self.errors[-1]


class Scaling(NamedTuple):
    """The result of :func:`scale_classes`."""

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
    """Label all images by their class probabilities such that the classes have equal sizes.

    Self-labelling (`arXiv:1911.05371 <https://arxiv.org/abs/1911.05371>`_, section 3.2): among
    the transport plans Q, one row per image and one column per class, with row sums 1/N and
    column sums 1/K, find ``Q = diag(c) P^lambd diag(r)``, which approximates the plan with the
    smallest mean ``-log p``. The label of an image is the largest entry of its row (the first of
    equal ones). This rounding makes the class sizes only approximately equal;
    ``balanced=True`` makes them equal.

    Args:
        log_prob (Tensor | Callable): Float, shape ``(N, K)``: ``log_softmax`` of the logits, not
            the logarithm of probabilities that may be 0. Or a function without arguments that
            returns blocks of its rows, in the same order at each call. float64 input is computed
            in float64, all other types in float32; sums over images are in float64.
        lambd (float): lambda, positive. A larger value is closer to the exact assignment and
            takes more passes. Defaults to 25 (the official code on ImageNet; 10 on CIFAR).
        tol (float): Error at which to stop. Defaults to 1e-2.
        max_iter (int): Maximum number of passes. Defaults to 1000.
        criterion (str): ``'relative'``: mean over the classes of ``|K * column sum - 1|``, the
            relative error of a class size; it does not depend on N. ``'official'``: the sum over
            the images of ``|c / c_new - 1|``, measured in the first and then in every tenth pass,
            as in the official code with a tolerance of 0.1 (ImageNet) or 0.01 (CIFAR); it
            becomes stricter as N grows. Defaults to ``'relative'``.
        balanced (bool): Whether to round to sizes of floor(N / K) and ceil(N / K), see
            :func:`~mmselfsup_invp.ops.rounding.round_balanced`. Defaults to False.
        max_elements (int, optional): Entries of a block if ``log_prob`` is a tensor. Defaults to
            None: 2**18 on the CPU, 2**24 on other devices.

    Returns:
        tuple[Tensor, SinkhornInfo]: Labels, int64, shape ``(N,)``, on the device of the
        log-probabilities, and convergence and quality of the solution.

    Raises:
        ValueError: If entries are not finite, there are fewer images than classes, or an option
            is outside its valid values.

    Example:
        >>> prob = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
        >>> label, info = sinkhorn_labels(prob.log())
        >>> label.tolist(), info.sizes.tolist(), round(info.cost, 4)
        ([0, 0, 1, 1], [2, 2], 0.6122)
    """
    check_option('sinkhorn_labels', 'criterion', criterion, Criterion)
    check_option('sinkhorn_labels', 'max_iter', max_iter, PositiveInt)
    check_option('sinkhorn_labels', 'lambd', lambd, PositiveFloat)
    check_option('sinkhorn_labels', 'tol', tol, PositiveFloat)
    source = _source(log_prob, max_elements)
    scaling = scale_classes(source, lambd, tol, max_iter, criterion)
    round_plan = round_balanced if balanced else round_argmax
    label = round_plan(source, lambd, scaling.log_class)
    cost = _mean_cost(source, label)
    sizes = cluster_sizes(label, len(scaling.log_class))
    return label, SinkhornInfo(*scaling[1:], cost, sizes)


def _source(log_prob: LogProb, max_elements: int | None) -> Source:
    """Make a function that returns blocks of rows, float64 as they are, others in float32."""
    if isinstance(log_prob, Tensor):
        whole = log_prob
        require_features('log_prob', whole)
        default = CPU_BLOCK if whole.device.type == 'cpu' else default_elements(whole.device)
        limit = max_elements or default
        rows = max(limit // max(whole.size(1), 1), 1)
        log_prob = lambda: whole.split(rows)  # noqa: E731
    return lambda: (
        block if block.dtype == torch.float64 else block.float() for block in log_prob()
    )


def scale_classes(
    source: Source, lambd: float, tol: float, max_iter: int, criterion: str
) -> Scaling:
    """Compute the scale r of each class in the plan: log r, float64, ``(K,)``, and the errors.

    Given log r, the plan is ``softmax(lambd * log_prob + log_r, dim=1) / N``: the scale of an image
    makes its row sum to 1/N. A pass is therefore one sweep, in which the column sums s of the plan
    give the error and the next scale, ``r <- r / (K s)``.

    The sums do not underflow for any lambd. The first r, from a log-sum-exp, makes every column of
    ``P^lambd diag(r) / N`` sum to 1/K, so that no row sums to more than 1 and normalising the rows
    only increases the entries. Hence s is at least 1 / (K N) in this and, by the same argument, in
    every later pass.
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
        elif iteration % OFFICIAL_INTERVAL == 1:
            errors.append((log_image - new_image).expm1().abs().sum().item())
        log_image = new_image
        if errors[-1] <= tol:
            break
        if iteration < max_iter:
            log_class = log_class - share.log()
    return Scaling(log_class, iteration, tuple(errors), errors[-1] <= tol)


def _first_scale(source: Source, lambd: float) -> tuple[Tensor, int]:
    """Check the log-probabilities; return log r for image scales of 1/N, and N."""
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
            'The log-probabilities contain NaN or Inf. NaN: the network has diverged; lower the '
            'learning rate. Inf: pass log_softmax of the logits, not the logarithm of a softmax, '
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
    for logits in scaled_blocks(source, lambd, log_class):
        logits.clamp_(min=logits.amax(dim=1, keepdim=True) - NEGLIGIBLE)
        total += logits.softmax(dim=1).sum(dim=0).double()
        if want_images:
            log_image.append(-logits.logsumexp(dim=1).double())
    return total, torch.cat(log_image)


def _mean_cost(source: Source, label: Tensor) -> float:
    """Mean of ``-log p`` of the labels."""
    total, start = torch.zeros((), dtype=torch.float64, device=label.device), 0
    for block in source():
        own = block.gather(1, label[start : start + len(block), None])
        total -= own.sum(dtype=torch.float64)
        start += len(block)
    return total.item() / len(label)
