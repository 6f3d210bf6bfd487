import torch
from torch import Tensor, nn

MAX_IDS = 8


class NonFiniteFeatures(RuntimeError):
    """Features of a training step are NaN or Inf."""


class NonFiniteMonitor(nn.Module):
    """Records the samples whose features are not finite (temporary)."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('sample', torch.full((MAX_IDS,), -1), persistent=False)
        self.register_buffer('found_at', torch.tensor(-1), persistent=False)
        self.iteration = 0

    def forward(self, sample: Tensor, feature: Tensor) -> Tensor:
        finite = feature.isfinite().all(dim=1)
        first = finite.to(torch.uint8).argsort(stable=True)[:MAX_IDS]
        found = torch.full_like(self.sample, -1)
        found[: len(first)] = torch.where(finite[first], -1, sample[first])
        unseen = self.sample[0] < 0
        self.found_at.copy_(torch.where(unseen & ~finite.all(), self.iteration, self.found_at))
        self.sample.copy_(torch.where(unseen, found, self.sample))
        return finite

    def check(self) -> None:
        samples = [index for index in self.sample.tolist() if index >= 0]
        if samples:
            raise NonFiniteFeatures(
                f'Features became NaN or Inf in iteration {int(self.found_at)}, first for the '
                f'samples {samples}. They did not enter the memory. Try a lower learning rate or '
                'optim_wrapper.clip_grad, look at those images, and under --amp at the loss scale; '
                'resume from the last checkpoint.'
            )
