from collections.abc import Callable

import torch
from mmselfsup.models.utils import SelfSupDataPreprocessor
from mmselfsup.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class AugmentingDataPreprocessor(SelfSupDataPreprocessor):
    """Make the views of a whole batch at once, on the device of the model.

    The workers only read the images, and bring them to one size where they differ; what is random
    is done here by `kornia <https://kornia.readthedocs.io>`_, for each image by itself. In place
    of ``AugmentedViews`` with random transforms, where the workers cannot keep up with the device.

    Kornia draws from PyTorch's random state of the host, which ``EpochSeedHook`` sets in every
    iteration from the seed of the run, the epoch and the iteration: a resumed run goes on with
    the views that the uninterrupted one would have had. An image's view depends on its place in
    the batch too, unlike that of ``AugmentedViews``.

    The views are float32 under mixed precision too. Batches that are not for training, those of
    the evaluation and of ``SelfLabelHook``, stay as they are.

    Args:
        transforms (list[dict]): Configs of augmentations: ``type`` names a class of
            ``kornia.augmentation``, further keys are its arguments. They see RGB images, float32
            within 0 to 1.
        num_views (int): Views of each image. Defaults to 1.
        **kwargs: See ``SelfSupDataPreprocessor`` of MMSelfSup: mean, std (of pixels within 0 to
            255), bgr_to_rgb, non_blocking. Without ``bgr_to_rgb=True`` the images of the loader
            must be RGB.

    Raises:
        ImportError: If kornia is not installed.
        ValueError: If kornia has no such augmentation.

    Example:
        >>> flip = dict(type='RandomHorizontalFlip', p=1.0)
        >>> preprocessor = AugmentingDataPreprocessor([flip])  # doctest: +SKIP
        >>> batch = dict(inputs=[torch.arange(3).expand(1, 3, 1, 3)], data_samples=[])
        >>> preprocessor(batch, training=True)[0][0][0, 0]  # doctest: +SKIP
        tensor([[2., 1., 0.]])
    """

    def __init__(self, transforms: list[dict], num_views: int = 1, **kwargs) -> None:
        super().__init__(**kwargs)
        if num_views < 1:
            raise ValueError(f'num_views = {num_views} must be at least 1.')
        self.num_views = num_views
        # Not a module of this one: kornia's have no state that a checkpoint should hold.
        self.augmentations = [build_kornia(config) for config in transforms]

    def forward(self, data: dict, training: bool = False) -> tuple[list[Tensor], object]:
        """Give the views of a batch, and its data samples.

        Args:
            data (dict): ``inputs``, a list of one tensor, ``(B, 3, H, W)``, uint8, and
                ``data_samples``.
            training (bool): Whether there are to be random views; if not, the images themselves.
                Defaults to False.

        Returns:
            tuple[list[Tensor], object]: ``num_views`` tensors, float32, ``(B, 3, h, w)``,
            normalised, and the data samples.
        """
        if not training:
            return super().forward(data, training)
        if len(data['inputs']) != 1:
            raise ValueError(
                f'The loader gives {len(data["inputs"])} views of an image to '
                'AugmentingDataPreprocessor, which makes them itself: leave num_views of '
                'AugmentedViews at 1, and set it in the preprocessor.'
            )
        data = self.cast_data(data)
        image = data['inputs'][0]
        if self._channel_conversion:
            image = image[:, [2, 1, 0]]
        image = image.float() / 255
        with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
            views = [self._normalised(self._view(image)) for _ in range(self.num_views)]
        return views, data['data_samples']

    def _view(self, image: Tensor) -> Tensor:
        for augment in self.augmentations:
            image = augment(image)
        return image * 255

    def _normalised(self, image: Tensor) -> Tensor:
        return (image - self.mean) / self.std if self._enable_normalize else image


def build_kornia(config: dict) -> Callable[[Tensor], Tensor]:
    """Build an augmentation of kornia from its config.

    Args:
        config (dict): ``type`` names a class of ``kornia.augmentation``, further keys are its
            arguments.

    Raises:
        ImportError: If kornia is not installed.
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
            f'This kornia does not fit torch {torch.__version__} ({error}); 0.9 needs 2.3 or '
            'newer. Install an older one, or take the views of the workers (AugmentedViews).'
        ) from error
    arguments = dict(config)
    arguments.pop('_scope_', None)  # MMEngine leaves it in what is inherited by package::name.
    name = arguments.pop('type')
    cls = getattr(kornia.augmentation, name, None)
    if not isinstance(cls, type):
        raise ValueError(
            f'kornia.augmentation has no {name!r}; use the name of one of its classes, such as '
            "'RandomResizedCrop'."
        )
    return cls(**arguments)
