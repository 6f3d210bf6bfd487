"""The images of a run without augmentation, from its config."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

from ..config import require_registered
from ..datasets import image_labels
from ..datasets.files import printable
from ..evaluation import TrainingRun
from ..evaluation.centre_view import evaluation_pipeline, knn_hook
from .blocks import ImagesUnavailable, Unavailable
from .options import ReportOptions

WRAPPED = 'dataset'  # Key of the wrapped data set in RepeatDataset and ClassBalancedDataset.


@dataclass(frozen=True)
class ImageSet:
    """Images of a data set without augmentation.

    Attributes:
        loader (DataLoader): Loader of the sampled images.
        index (Tensor): int64, indices of these images in the data set, ascending.
        total (int): Number of images in the data set.
        label (Tensor | None): int64, their classes; None without labels.
        classes (tuple[str, ...]): Names of the classes; empty if the data set has none.
    """

    loader: DataLoader
    index: Tensor
    total: int
    label: Tensor | None
    classes: tuple[str, ...]

    def path(self, row: int) -> str:
        """Return the path of an image."""
        return self.loader.dataset.get_data_info(row)['img_path']

    @property
    def folder(self) -> str:
        """The absolute path of the folder of the images, for display; ``''`` if there is none."""
        folder = self._folder
        return printable(Path(folder).absolute() if Path(folder).is_dir() else folder)

    @property
    def _folder(self) -> str:
        return getattr(self.loader.dataset, 'data_prefix', {}).get('img_path') or ''

    def file_name(self, row: int) -> str:
        """Return the path of an image relative to the folder of the images, for display."""
        path, folder = Path(self.path(row)), self._folder
        inside = folder and path.is_relative_to(folder)
        return printable(path.relative_to(folder) if inside else path)

    def class_name(self, row: int) -> str:
        """Return the class of an image."""
        return self.label_name(int(self.label[row]))

    def label_name(self, label: int) -> str:
        """Return the name of a class."""
        return self.classes[label] if self.classes else str(label)


def training_images(run: TrainingRun, options: ReportOptions) -> ImageSet:
    """Build the training images of a run; those in ``options.anchors`` are always included."""
    if 'dataset' not in (run.config.get('train_dataloader') or {}):
        raise ValueError(f'The config in {run.checkpoint} has no train_dataloader.dataset.')
    dataset = deepcopy(run.config.train_dataloader.dataset)
    while WRAPPED in dataset:
        dataset = dataset[WRAPPED]
    require_registered(dataset, f'The config in {run.checkpoint}')
    dataset.pipeline = _evaluation_pipeline(run.config)
    return _build(run, options, dataset, options.anchors)


def query_images(run: TrainingRun, options: ReportOptions) -> ImageSet:
    """Build the images that ``KNNEvalHook`` classifies."""
    hook = knn_hook(run.config)
    if hook is None:
        raise Unavailable(
            'the run has no KNNEvalHook, whose query_dataloader provides images that were not '
            'trained on'
        )
    return _build(run, options, deepcopy(hook.query_dataloader.dataset))


def find_data_root(data_root: str, run: Path) -> str:
    """Find a data set whose path is relative to where the run was started.

    Returns ``data_root`` if it exists or is found nowhere, otherwise its path below the nearest
    parent of the work folder that contains it.
    """
    if not data_root or Path(data_root).exists():
        return data_root
    folders = (parent / data_root for parent in run.resolve().parents)
    return str(next(filter(Path.is_dir, folders), data_root))


def _evaluation_pipeline(config: Config) -> list:
    """Return the pipeline without augmentation of KNNEvalHook, a cluster hook or the config."""
    pipeline = evaluation_pipeline(config)
    if pipeline is None:
        raise Unavailable(
            'the config has no pipeline without augmentation (test_pipeline, or that of '
            'KNNEvalHook)'
        )
    return deepcopy(pipeline)


def _build(
    run: TrainingRun, options: ReportOptions, dataset: ConfigDict, required: Sequence[int] = ()
) -> ImageSet:
    dataset.data_root = options.data_root or find_data_root(dataset.get('data_root', ''), run.path)
    training = run.config.train_dataloader
    config = dict(
        batch_size=training.batch_size,
        num_workers=training.get('num_workers', 0),
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=training.get('collate_fn', dict(type='default_collate')),
        dataset=dataset,
    )
    require_registered(config, f'The config in {run.checkpoint}')
    try:
        with DefaultScope.overwrite_default_scope(run.config.get('default_scope')):
            loader = Runner.build_dataloader(config, seed=options.seed)
        images = loader.dataset
        total = len(images)
    except OSError as error:
        raise ImagesUnavailable(
            f'the images cannot be loaded ({error}); give the folder of the data set by --data'
        ) from error
    index = sample(total, required, options.max_images, options.generator())
    if len(index) < total:
        images.get_subset_(index.tolist())
    classes = tuple(map(str, images.metainfo.get('classes') or ()))
    return ImageSet(loader, index, total, image_labels(images), classes)


def sample(total: int, required: Sequence[int], num: int, generator: torch.Generator) -> Tensor:
    """Sample at most ``num`` of ``total`` rows, int64, ascending, with the required ones.

    Required rows outside 0 to ``total`` - 1 are ignored.
    """
    order = torch.randperm(total, generator=generator)
    required = torch.tensor([index for index in required if 0 <= index < total]).long().unique()
    others = order[~torch.isin(order, required)]
    return torch.cat([required, others])[: min(num, total)].sort().values
