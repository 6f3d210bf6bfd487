import torch
from torch import Tensor

from ..ops.checks import require_range
from ..ops.self_label import initial_labels
from ..options import NonNegativeInt, PositiveInt, Seed, checked
from .state import RowState


@checked
class SelfLabels(RowState):
    """Labels of all images, one for each head of a classifier.

    The state of `self-labelling <https://arxiv.org/abs/1911.05371>`_. The initial labels are drawn
    at random, equally many of each class.

    Buffer: ``labels`` (N, H), int64.

    Args:
        num_classes (int): K, classes of each head. Defaults to 3000.
        num_heads (int): H. Defaults to 10.
        length (int): N, images; 0 leaves it to :meth:`resize` or a checkpoint. Defaults to 0.
        seed (int): Seed of the initial labels, which are the same in all processes. Defaults to 0.

    Raises:
        ValueError: If an option is outside its valid values.

    Example:
        >>> labels = SelfLabels(num_classes=2, num_heads=1, length=4)
        >>> labels.relabel(0, torch.tensor([0, 0, 1, 1]))
        >>> labels.labels.squeeze(1)
        tensor([0, 0, 1, 1])
    """

    labels: Tensor

    def __init__(
        self,
        num_classes: PositiveInt = 3000,
        num_heads: PositiveInt = 10,
        length: NonNegativeInt = 0,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_heads = num_heads
        self.seed = seed
        self.register_rows('labels', torch.empty(0, num_heads, dtype=torch.int64))
        if length:
            self.resize(length)

    def resize(self, length: int) -> None:
        """Draw the labels of ``length`` images."""
        why = f'{length} images cannot fill more classes; lower it in head and memory'
        require_range('num_classes', self.num_classes, 1, length, why)
        generator = torch.Generator().manual_seed(self.seed)
        labels = initial_labels(length, self.num_classes, self.num_heads, generator)
        self.labels = labels.to(self.labels)

    def relabel(self, head: int, label: Tensor) -> None:
        """Replace the labels of one head.

        Args:
            head (int): The head, from 0.
            label (Tensor): int64, shape ``(N,)``.
        """
        self.labels[:, head] = label
