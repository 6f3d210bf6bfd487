from torch import Tensor

from ...compat.host import MODELS
from ...memory import SelfLabels
from ...options import InitCfg, NonNegativeInt, PositiveInt, Seed, checked
from .base import Memory


@MODELS.register_module()
@checked
class SelfLabelMemory(Memory):
    """Labels of all images of the data set, one for each head.

    The labels of `SeLa <https://arxiv.org/abs/1911.05371>`_; ``SelfLabelHook`` replaces them.

    Args:
        num_classes (int): K, classes of each head. Defaults to 3000.
        num_heads (int): H. Defaults to 10.
        length (int, optional): N. Defaults to None: the hook takes it from the data set.
        seed (int): Seed of the initial labels. Defaults to 0.
        init_cfg (dict, optional): Not used. Defaults to None.
    """

    holds_images = True
    hook = "self_label=dict(type='SelfLabelHook')"

    def __init__(
        self,
        num_classes: PositiveInt = 3000,
        num_heads: PositiveInt = 10,
        length: NonNegativeInt | None = None,
        seed: Seed = 0,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg)
        self.assignment = SelfLabels(num_classes, num_heads, length or 0, seed)

    @property
    def labels(self) -> Tensor:
        """Labels, int64, shape ``(N, H)``."""
        return self.assignment.labels

    @property
    def num_classes(self) -> int:
        """K."""
        return self.assignment.num_classes

    @property
    def num_heads(self) -> int:
        """H."""
        return self.assignment.num_heads

    def relabel(self, head: int, label: Tensor) -> None:
        """Replace the labels of one head by ``label``, int64, shape ``(N,)``."""
        self.assignment.relabel(head, label)
