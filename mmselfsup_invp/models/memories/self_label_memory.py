import torch
from mmselfsup.registry import MODELS
from torch import Tensor

from ...ops.checks import require_range
from ...ops.self_label import initial_labels
from .sized_memory import SizedMemory


@MODELS.register_module()
class SelfLabelMemory(SizedMemory):
    """The labels that a network gave to all images of the data set.

    Buffer ``labels``, int64, shape ``(N, H)``: row i holds the labels of image i, one for each
    head. At the start they are drawn at random, equally many of each class, and soon replaced.

    Args:
        num_classes (int): K, classes of each head. Defaults to 3000.
        num_heads (int): H. Defaults to 10.
        length (int, optional): N. Defaults to None: the hook takes it from the data set.
        seed (int): Of the initial labels, so that every rank starts alike. Defaults to 0.
        init_cfg (dict, optional): Not used. Defaults to None.

    Example:
        >>> memory = SelfLabelMemory(num_classes=2, num_heads=1, length=4)
        >>> memory.relabel(0, torch.tensor([0, 0, 1, 1]))
        >>> memory.labels.squeeze(1).tolist()
        [0, 0, 1, 1]
    """

    row_buffers = ('labels',)
    holds_images = True

    def __init__(
        self,
        num_classes: int = 3000,
        num_heads: int = 10,
        length: int | None = None,
        seed: int = 0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        require_range('num_classes', num_classes, 1, 2**31, 'a label needs a class')
        require_range('num_heads', num_heads, 1, 2**31, 'somebody must give the labels')
        self.num_classes = num_classes
        self.num_heads = num_heads
        self.seed = seed
        self.register_buffer('labels', torch.empty(0, num_heads, dtype=torch.int64))
        if length is not None:
            self.resize(length)

    def resize(self, length: int) -> None:
        """Draw the labels of ``length`` images.

        Raises:
            ValueError: If there are fewer images than classes.
        """
        why = f'{length} images cannot fill more classes; lower it in head and memory'
        require_range('num_classes', self.num_classes, 1, length, why)
        generator = torch.Generator().manual_seed(self.seed)
        labels = initial_labels(length, self.num_classes, self.num_heads, generator)
        self.labels = labels.to(self.labels)

    def relabel(self, head: int, label: Tensor) -> None:
        """Take new labels, int64, shape ``(N,)``, for one head."""
        self.labels[:, head] = label
