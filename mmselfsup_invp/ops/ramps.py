"""Schedules for the weight of the propagation loss."""

import math
from collections.abc import Callable
from typing import Annotated

from ..options import Choice, check_option

RAMPS: dict[str, Callable[[float, float], float]] = {
    'binary': lambda epoch, length: float(epoch > length),
    'gaussian': lambda epoch, length: math.exp(-5 * max(1 - epoch / length, 0) ** 2),
    'constant': lambda epoch, length: 1.0,
}
Ramp = Annotated[str, Choice(RAMPS)]


def ramp_weight(kind: str, epoch: float, length: float = 30) -> float:
    """Compute the weight omega(t) of the propagation loss in epoch ``t`` (InvP, section 3.3).

    ``'binary'`` (the paper) is 0 up to and including epoch ``length``, then 1. ``'gaussian'`` is
    ``exp(-5 * max(1 - t / length, 0) ** 2)``. ``'constant'`` is 1 (the option ``zero`` of the
    official code).

    Args:
        kind (str): ``'binary'``, ``'gaussian'`` or ``'constant'``.
        epoch (float): The epoch t, counted from **1** (mmengine's ``runner.epoch + 1``).
        length (float): T, length of the ramp in epochs; 0 is no ramp. Defaults to 30.

    Returns:
        float: The weight, 0 to 1.

    Raises:
        ValueError: If the kind is unknown.

    Example:
        >>> ramp_weight('binary', 30), ramp_weight('binary', 31)
        (0.0, 1.0)
    """
    check_option('ramp_weight', 'kind', kind, Ramp)
    if length <= 0:
        return 1.0
    return RAMPS[kind](epoch, length)
