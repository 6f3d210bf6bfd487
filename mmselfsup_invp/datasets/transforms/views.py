import random
from typing import Annotated

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from PIL import Image, ImageFilter
from torchvision import transforms as tv

from ...compat.host import TRANSFORMS
from ...options import NonNegativeFloat, Range, checked


@checked
class PILGaussianBlur:
    """Gaussian blur of a PIL image with a random radius (SimCLR, appendix A).

    Args:
        sigma (Sequence[float]): Range of the radius in pixels. Defaults to (0.1, 2.0).
    """

    def __init__(self, sigma: tuple[NonNegativeFloat, NonNegativeFloat] = (0.1, 2.0)) -> None:
        self.sigma = tuple(sigma)

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(*self.sigma)))


def build_torchvision(config: dict | list) -> object:
    """Build a transform of torchvision, or :class:`PILGaussianBlur`, from its config.

    ``type`` is the class name, the other keys are its arguments; ``transforms`` is built
    recursively. A list is composed. An unknown type raises ``ValueError``.

    Example:
        >>> build_torchvision(dict(type='RandomHorizontalFlip', p=0.5))
        RandomHorizontalFlip(p=0.5)
    """
    if not isinstance(config, dict):
        return tv.Compose([build_torchvision(item) for item in config])
    arguments = dict(config)
    arguments.pop(
        '_scope_', None
    )  # Left by MMEngine in configs that are inherited as package::name.
    name = arguments.pop('type')
    cls = PILGaussianBlur if name == 'PILGaussianBlur' else getattr(tv, name, None)
    if not isinstance(cls, type):
        raise ValueError(
            f'torchvision.transforms has no {name!r}; use the name of one of its classes, such as '
            "'RandomResizedCrop', or 'PILGaussianBlur'."
        )
    if 'transforms' in arguments:
        arguments['transforms'] = [build_torchvision(item) for item in arguments['transforms']]
    if isinstance(arguments.get('interpolation'), str):
        arguments['interpolation'] = tv.InterpolationMode(arguments['interpolation'])
    return cls(**arguments)


@TRANSFORMS.register_module()
@checked
class AugmentedViews(BaseTransform):
    """Create one or more views of an image with torchvision's transforms.

    The required keys are ``img`` (BGR, uint8, shape ``(H, W, 3)``) and ``sample_idx``; ``img`` is
    replaced by a list of views in the same format.

    If ``EpochSeedHook`` is used, each view is drawn from a seed derived from the seed of the run,
    the epoch, the sample and the index of the view. The views then do not depend on the number of
    workers, and a resumed run continues with the views of the uninterrupted one. Without the hook
    the global random state is used.

    Args:
        transforms (list[dict]): Configs of torchvision transforms, applied in order to a PIL image
            (RGB). The last one must return such an image. See :func:`build_torchvision`.
        num_views (int): Number of views of each image. Defaults to 1.
        key_transforms (list[dict], optional): Transforms of all views but the first, for example
            the weak ones of a teacher. Defaults to None: ``transforms``.

    Raises:
        ValueError: If ``num_views`` is below 1, a transform is unknown, or a view is no RGB image.

    Example:
        >>> views = AugmentedViews([dict(type='RandomCrop', size=4)], num_views=2)
        >>> results = views(dict(img=np.zeros((8, 8, 3), np.uint8), sample_idx=0))
        >>> [view.shape for view in results['img']]
        [(4, 4, 3), (4, 4, 3)]
    """

    def __init__(
        self,
        transforms: list[dict],
        num_views: Annotated[int, Range(1, 100)] = 1,
        key_transforms: list[dict] | None = None,
    ) -> None:
        self.num_views = num_views
        query = build_torchvision(transforms)
        key = build_torchvision(key_transforms) if key_transforms else query
        self.composed = [query] + [key] * (num_views - 1)
        # (seed of the run, epoch) in shared memory, so that persistent workers see the changes.
        self.epoch_seed = torch.full((2,), -1).share_memory_()

    def set_epoch(self, seed: int, epoch: int) -> None:
        """Set the seed of the run and the epoch that the views are drawn from."""
        self.epoch_seed.copy_(torch.tensor([seed, epoch]))

    def transform(self, results: dict) -> dict:
        """Replace ``results['img']`` with the list of views."""
        image = Image.fromarray(np.ascontiguousarray(results['img'][..., ::-1]))
        seed, epoch = self.epoch_seed.tolist()
        views = []
        for number, compose in enumerate(self.composed):
            if epoch >= 0:
                seed_everything(seed, epoch, results['sample_idx'], number)
            views.append(_bgr(compose(image)))
        results['img'] = views
        return results


def _bgr(view: object) -> np.ndarray:
    is_image = isinstance(view, Image.Image)
    if not is_image or view.mode != 'RGB':
        found = f'an image of mode {view.mode}' if is_image else type(view).__name__
        raise ValueError(
            f'The transforms of AugmentedViews must return an RGB image, found {found}. Remove '
            'ToTensor and Normalize (the data preprocessor normalises), and set '
            'num_output_channels=3 in Grayscale.'
        )
    return np.asarray(view)[..., ::-1]


def seed_everything(*parts: int) -> None:
    """Seed Python, NumPy and torch's CPU generator from several integers."""
    seed = int(np.random.SeedSequence(parts).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
