import torch
from torch import Tensor, nn

from ..ops.collectives import total


class ChangeCounter(nn.Module):
    """Share of the written entries that changed, since it was last read; not saved."""

    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Changed and written entries.
        self.register_buffer('counts', torch.zeros(2, dtype=torch.int64), persistent=False)

    def add(self, changed: Tensor, written: Tensor | None = None) -> None:
        """Count entries, bool; ``written`` of the same shape leaves some out."""
        written = torch.ones_like(changed) if written is None else written
        self.counts += torch.stack([(changed & written).sum(), written.sum()])

    def ratio(self, *, split: bool = False) -> float | None:
        """Read the share and start anew, None if nothing was written; waits for the device.

        With ``split`` each process has counted entries of its own, and the share is that of all.
        """
        changed, written = (total(self.counts) if split else self.counts).tolist()
        self.counts.zero_()
        return changed / written if written else None
