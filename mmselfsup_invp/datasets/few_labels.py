import math

from ..compat.host import DATASETS, CustomDataset
from ..options import PositiveFraction, Seed, checked
from .subsets import draw_per_class


@DATASETS.register_module()
@checked
class FewLabels(CustomDataset):
    """A random subset with the same fraction of every class, for low-shot evaluation.

    ``ceil(fraction * n)`` of the n images of a class are drawn uniformly without replacement, as
    in InvP's code (Wang et al., CVPR 2020), which sets no seed. Images keep their order.

    Args:
        fraction (float): Fraction of the images of each class, within (0, 1].
        seed (int): Seed of the draw. Defaults to 0.
        **kwargs: Arguments of MMClassification's ``CustomDataset``.

    Raises:
        ValueError: If ``fraction`` is not within (0, 1].

    Example:
        >>> images = FewLabels(
        ...     data_root='data/imagenet', data_prefix='train', fraction=0.01
        ... )  # doctest: +SKIP
    """

    def __init__(self, *args, fraction: PositiveFraction, seed: Seed = 0, **kwargs) -> None:
        self.fraction = fraction
        self.seed = seed
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """The drawn images, in the order of the whole list."""
        images = super().load_data_list()
        labels = [image['gt_label'] for image in images]
        drawn = draw_per_class(labels, lambda n: math.ceil(self.fraction * n), self.seed)
        return [images[row] for row in drawn]
