from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor

from ...compat.host import MODELS, SelfSupDataPreprocessor
from ...ops.search.products import disable_autocast
from ...options import Range, checked


@MODELS.register_module()
@checked
class AugmentingDataPreprocessor(SelfSupDataPreprocessor):
    """Augment whole batches on the device of the model with kornia.

    The workers only decode the images and resize them to one size if needed; the random
    augmentations of `kornia <https://kornia.readthedocs.io>`_ run here, independently for each
    image. This replaces the random transforms of ``AugmentedViews`` where the workers are slower
    than the device.

    Kornia draws from PyTorch's CPU generator, which ``EpochSeedHook`` seeds in every iteration
    from the seed of the run, the epoch and the iteration. A resumed run therefore continues with
    the views of the uninterrupted one. Unlike with ``AugmentedViews``, a view also depends on the
    position of the image in the batch.

    The views are float32 under mixed precision as well. Batches outside of training (evaluation,
    ``SelfLabelHook``) are not augmented.

    Args:
        transforms (list[dict]): Configs of augmentations: ``type`` is a class of
            ``kornia.augmentation``, the other keys are its arguments. Their input are RGB images,
            float32 within [0, 1].
        num_views (int): Number of views of each image. Defaults to 1.
        **kwargs: Arguments of MMSelfSup's ``SelfSupDataPreprocessor``: mean and std (for pixels
            within [0, 255]), bgr_to_rgb, non_blocking. Without ``bgr_to_rgb=True`` the loader must
            provide RGB images.

    Raises:
        ImportError: If kornia is not installed or does not support this PyTorch.
        ValueError: If ``num_views`` is below 1 or kornia has no such augmentation.

    Example:
        >>> flip = dict(type='RandomHorizontalFlip', p=1.0)
        >>> preprocessor = AugmentingDataPreprocessor([flip])  # doctest: +SKIP
        >>> batch = dict(inputs=[torch.arange(3).expand(1, 3, 1, 3)], data_samples=[])
        >>> preprocessor(batch, training=True)[0][0][0, 0]  # doctest: +SKIP
        tensor([[2., 1., 0.]])
    """

    def __init__(
        self, transforms: list[dict], num_views: Annotated[int, Range(1, 100)] = 1, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.num_views = num_views
        # A plain list: the augmentations have no state that belongs into a checkpoint.
        self.augmentations = [build_kornia(config) for config in transforms]

    def forward(self, data: dict, training: bool = False) -> tuple[list[Tensor], object]:
        """Augment and normalise a batch.

        Args:
            data (dict): ``inputs``, a list of one tensor, uint8, shape ``(B, 3, H, W)``, and
                ``data_samples``.
            training (bool): Whether to augment the images. Defaults to False.

        Returns:
            tuple[list[Tensor], object]: ``num_views`` normalised tensors, float32, shape
            ``(B, 3, h, w)``, and the data samples.

        Raises:
            ValueError: If the loader provides more than one view.
        """
        if not training:
            return super().forward(data, training)
        if len(data['inputs']) != 1:
            raise ValueError(
                f'The loader provides {len(data["inputs"])} views of an image, but '
                'AugmentingDataPreprocessor creates the views: set num_views=1 in AugmentedViews '
                'and num_views of the preprocessor instead.'
            )
        data = self.cast_data(data)
        image = data['inputs'][0]
        if self._channel_conversion:
            image = image[:, [2, 1, 0]]
        image = image.float() / 255
        with torch.no_grad(), disable_autocast(image.device):
            views = [self._normalised(self._view(image)) for _ in range(self.num_views)]
        return views, data['data_samples']

    def _view(self, image: Tensor) -> Tensor:
        for augment in self.augmentations:
            image = augment(image)
        return image * 255

    def _normalised(self, image: Tensor) -> Tensor:
        return (image - self.mean) / self.std if self._enable_normalize else image


def build_kornia(config: dict) -> Callable[[Tensor], Tensor]:
    """Build an augmentation of kornia from its config: ``type`` is a class, the rest its arguments.

    Raises:
        ImportError: If kornia is not installed or does not support this PyTorch.
        ValueError: If kornia has no such augmentation.
    """
    try:
        import kornia.augmentation
    except ModuleNotFoundError as error:
        raise ImportError(
            'AugmentingDataPreprocessor needs kornia, which is not installed: pip install kornia'
        ) from error
    except AttributeError as error:
        raise ImportError(
            f'The installed kornia does not support torch {torch.__version__} ({error}); kornia '
            '0.9 requires torch 2.3. Install an older kornia, or use AugmentedViews.'
        ) from error
    arguments = dict(config)
    arguments.pop(
        '_scope_', None
    )  # Left by MMEngine in configs that are inherited as package::name.
    name = arguments.pop('type')
    cls = getattr(kornia.augmentation, name, None)
    if not isinstance(cls, type):
        raise ValueError(
            f'kornia.augmentation has no {name!r}; use the name of one of its classes, such as '
            "'RandomResizedCrop'."
        )
    return cls(**arguments)
