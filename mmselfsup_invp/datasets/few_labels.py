import math
from itertools import chain

import numpy as np
from mmcls.datasets import CustomDataset
from mmselfsup.registry import DATASETS


@DATASETS.register_module()
class FewLabels(CustomDataset):
    """A share of the images of each class, drawn by a seed.

    As in the official code of InvP: ``ceil(fraction * n)`` of the n images of a class, uniformly
    without replacement.

    Args:
        fraction (float): Share of the images, above 0, at most 1.
        seed (int): Of the draw. Defaults to 0.
        **kwargs: As for MMClassification's ``CustomDataset``.

    Raises:
        ValueError: If ``fraction`` is outside its range.
    """

    def __init__(self, *args, fraction: float, seed: int = 0, **kwargs) -> None:
        if not 0 < fraction <= 1:
            raise ValueError(f'fraction = {fraction} must be above 0 and at most 1.')
        self.fraction = fraction
        self.seed = seed
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """The images drawn, in the order of the whole list."""
        images = super().load_data_list()
        labels = np.array([image['gt_label'] for image in images])
        random = np.random.default_rng(self.seed)
        chosen = [self._draw(np.flatnonzero(labels == own), random) for own in np.unique(labels)]
        return [images[row] for row in sorted(chain.from_iterable(chosen))]

    def _draw(self, rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return random.choice(rows, math.ceil(self.fraction * len(rows)), replace=False)
