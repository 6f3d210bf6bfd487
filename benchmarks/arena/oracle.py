"""Positives filtered by the true labels: what InvP would learn from a purer graph."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmselfsup.registry import HOOKS, MODELS
from torch import Tensor

from mmselfsup_invp.datasets import image_labels
from mmselfsup_invp.models.memories import PropagationMemory
from mmselfsup_invp.ops.positives import Positives


@MODELS.register_module()
class OracleMemory(PropagationMemory):
    """A memory that drops positives of a wrong class. It needs labels, so it is for study only.

    Args:
        keep_wrong (float): Probability with which a positive of a wrong class stays. Defaults to 0.
        **kwargs: See :class:`~mmselfsup_invp.models.memories.PropagationMemory`.
    """

    def __init__(self, keep_wrong: float = 0.0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.keep_wrong = keep_wrong
        self.label: Tensor | None = None

    def propagate(self, anchor: Tensor, *args, **kwargs) -> Positives:
        """Positives on the graph whose class is that of the anchor, and some of the others."""
        index, mask = super().propagate(anchor, *args, **kwargs)
        stays = self.label[index] == self.label[anchor][:, None]
        stays |= torch.rand(index.shape) < self.keep_wrong
        return Positives(index, mask & stays)


@HOOKS.register_module()
class OracleHook(Hook):
    """Gives the labels of the training images to :class:`OracleMemory`."""

    def before_train(self, runner: Runner) -> None:
        """Read the labels."""
        runner.model.memory.label = image_labels(runner.train_dataloader.dataset)
