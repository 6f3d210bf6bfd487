"""Chance level of a loss: its value for a network that does not distinguish the images."""

import math

from torch import nn

from ..models.heads import InvPHead, SelfLabelHead, SoftInvPHead


def chance_levels(head: nn.Module | None, rows: int = 0) -> dict[str, float]:
    """Losses of a head whose queries are equally similar to all rows, or to all classes.

    A softmax over n equal logits gives the cross entropy ln(n), whatever the target.

    Args:
        head (nn.Module, optional): The head of a model.
        rows (int): Rows of the bank or queue. Defaults to 0, none.

    Returns:
        dict[str, float]: Level in nats by the name of the logged loss; empty for methods whose
        losses have margins or change with the labels, and for a bank without rows.

    Example:
        >>> levels = chance_levels(SelfLabelHead(in_channels=4, num_classes=10))
        >>> round(levels['loss'], 2)
        2.3
    """
    match head:
        case InvPHead() if rows:
            sampling = head.loss.sampling
            num = rows if sampling.num_background is None else sampling.num_background
            # The row of the image itself comes on top, unless the search has to find it.
            own = sampling.num_background is not None and sampling.instance_background == 'exact'
            return {'loss_ins': math.log(min(num + own, rows))}
        case SoftInvPHead() if rows:
            num = max(head.num_background or rows, head.num_target) + 1
            return {'loss_soft': math.log(min(num, rows))}
        case SelfLabelHead():
            return {'loss': math.log(head.num_classes)}
    return {}
