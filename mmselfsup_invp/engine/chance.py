"""Chance level of a loss: its value for a network that does not distinguish the images."""

import math

from torch import nn

from ..models.heads import InvPHead, SelfLabelHead, SoftInvPHead


def chance_levels(head: nn.Module | None, rows: int = 0) -> dict[str, float]:
    """Losses, by name, of a head whose queries are equally similar to all rows, or to all classes.

    A softmax over n equal logits gives the cross entropy ln(n), whatever the target. ``rows`` are
    those of the bank or queue. Empty for methods whose losses have margins or change with the
    labels, and for a bank without rows.
    """
    match head:
        case InvPHead() if rows and head.lambda_ins:
            sampling = head.loss.sampling
            num = rows if sampling.num_background is None else sampling.num_background
            # The row of the image itself comes on top, unless the search has to find it.
            own = sampling.num_background is not None and sampling.instance_background == 'exact'
            return {'loss_ins': head.lambda_ins * math.log(min(num + own, rows))}
        case SoftInvPHead() if rows:
            num = max(head.num_background or rows, head.num_target) + 1
            return {'loss_soft': math.log(min(num, rows))}
        case SelfLabelHead():
            return {'loss': math.log(head.num_classes)}
    return {}
