"""Network, images and features of a run, each made when a section first asks for it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from .. import ops
from ..compat.host import MODELS, BaseModel
from ..config import require_registered
from ..datasets import image_labels
from ..datasets.transforms.loading import UnreadableImage
from ..engine.hooks.knn_eval_hook import backbone_features
from ..evaluation import TrainingRun, extract_features
from ..models.memories import Memory
from ..ops.checks import require_range
from .blocks import Absent

# Of the paper; for methods without a graph of their own.
NUM_NEIGHBOURS, HOPS = 4, 3
WRAPPER = 'dataset'  # Under which repeating data sets hold the one that they repeat.


@dataclass(frozen=True)
class Options:
    """What a reader may choose.

    Attributes:
        anchors (tuple[int, ...]): Images to look at, by their number in the data set; drawn where
            none are given.
        num_anchors (int): Images to draw then.
        data_root (str | None): Where the images are, instead of where the config says.
        max_images (int): Training images, and images to classify, to draw where there are more.
        seed (int): Of every draw.
        device (str): What the network runs on.

    Raises:
        ValueError: If no image may be drawn.
    """

    anchors: tuple[int, ...] = ()
    num_anchors: int = 4
    data_root: str | None = None
    max_images: int = 50_000
    seed: int = 0
    device: str = 'cpu'

    def __post_init__(self) -> None:
        require_range('max_images', self.max_images, 1, 2**31, 'the page shows some')

    def generator(self) -> torch.Generator:
        """A generator of its own for each figure, so that none depends on another."""
        return torch.Generator().manual_seed(self.seed)


@dataclass(frozen=True)
class ImageSet:
    """Images without augmentation.

    Attributes:
        loader (DataLoader): Over the images drawn.
        number (Tensor): int64, their numbers in the whole data set, ascending.
        total (int): Images of the whole data set.
        label (Tensor | None): int64, their classes, where there are any.
        classes (tuple[str, ...]): Names of the classes; empty where they have none.
    """

    loader: DataLoader
    number: Tensor
    total: int
    label: Tensor | None
    classes: tuple[str, ...]

    def path(self, row: int) -> str:
        """File of an image."""
        return self.loader.dataset.get_data_info(row)['img_path']

    def class_name(self, row: int) -> str:
        """Class of an image."""
        return self.name_of(int(self.label[row]))

    def name_of(self, label: int) -> str:
        """Name of a class."""
        return self.classes[label] if self.classes else str(label)


class Source:
    """What the sections are made from.

    Args:
        run (TrainingRun): The run.
        options (Options): What the reader chose.
    """

    def __init__(self, run: TrainingRun, options: Options) -> None:
        self.run = run
        self.options = options

    @cached_property
    def model(self) -> BaseModel:
        """The network of the checkpoint, in evaluation mode; its memories are left as built."""
        cfg = deepcopy(self.run.config)
        if cfg.get('data_preprocessor'):
            cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
        require_registered(cfg.model)
        with self._scope():
            model = MODELS.build(cfg.model)
        memories = tuple(f'{name}.' for name, _ in _memories(model))
        state = {
            name: value for name, value in self.run.state.items() if not name.startswith(memories)
        }
        missing = [name for name, _ in model.named_parameters() if name not in state]
        if missing:
            raise ValueError(
                f'{self.run.checkpoint} holds no weights for {len(missing)} parameters of '
                f'{type(model).__name__} ({", ".join(missing[:3])} ...): it is not of this run.'
            )
        model.load_state_dict(state, strict=False)
        return model.to(self.options.device).eval()

    @cached_property
    def memories(self) -> dict[str, tuple[Memory, dict[str, Tensor]]]:
        """Memories of the model by name, each with its buffers in the checkpoint."""
        found = {}
        for name, memory in _memories(self.model):
            buffers = {
                key.removeprefix(f'{name}.'): value
                for key, value in self.run.state.items()
                if key.startswith(f'{name}.')
            }
            found[name] = (memory, buffers)
        return found

    @cached_property
    def gallery(self) -> ImageSet:
        """The training images, those that are asked for among them."""
        return self._image_set(self._training_dataset(), self.options.anchors)

    @cached_property
    def queries(self) -> ImageSet:
        """The images that KNNEvalHook classifies."""
        hook = self._knn_hook()
        if hook is None:
            raise Absent('the run has no KNNEvalHook, which names images that were not trained on')
        return self._image_set(deepcopy(hook.query_dataloader.dataset))

    @cached_property
    def embedding(self) -> Tensor:
        """Unit rows of the training images in the space that the method compares them in."""
        if not hasattr(self.model, 'embed'):
            return self.backbone
        return self._extract(self.gallery, _embedding)

    @cached_property
    def backbone(self) -> Tensor:
        """Unit pooled features of the training images."""
        return self._extract(self.gallery, backbone_features)

    @cached_property
    def query_backbone(self) -> Tensor:
        """Unit pooled features of the images to classify."""
        return self._extract(self.queries, backbone_features)

    @property
    def space(self) -> str:
        """What :attr:`embedding` is, in words."""
        embeds = hasattr(self.model, 'embed')
        return 'embeddings of the neck' if embeds else 'pooled features of the backbone'

    @cached_property
    def graph(self) -> tuple[Tensor, str]:
        """Neighbours of the training images, ``(N, k)``, and where they are from, in words."""
        for memory, buffers in self.memories.values():
            neighbours = buffers.get('neighbours', ())
            if memory.holds_images and len(neighbours) == len(self.gallery.number):
                return neighbours, 'the graph in the checkpoint'
        k = min(self._option('memory', 'num_neighbours', NUM_NEIGHBOURS), len(self.embedding) - 1)
        words = f'the {k} nearest neighbours by the {self.space} without augmentation'
        return ops.knn_graph(self.embedding, k), words

    @property
    def hops(self) -> int:
        """Steps of the walk."""
        return self._option('head', 'hops', HOPS)

    @cached_property
    def anchors(self) -> list[int]:
        """Rows of the images to look at."""
        number, total = self.gallery.number, self.gallery.total
        if not self.options.anchors:
            order = torch.randperm(len(number), generator=self.options.generator())
            return order[: self.options.num_anchors].tolist()
        for anchor in self.options.anchors:
            if not 0 <= anchor < total:
                raise ValueError(
                    f'anchor {anchor} is outside the valid range 0 to {total - 1}: the run was '
                    f'trained on {total} images.'
                )
        return torch.searchsorted(number, torch.tensor(self.options.anchors)).tolist()

    def _option(self, part: str, name: str, default: int) -> int:
        return self.run.config.model.get(part, {}).get(name, default)

    def _scope(self) -> AbstractContextManager:
        return DefaultScope.overwrite_default_scope(self.run.config.get('default_scope'))

    def _knn_hook(self) -> ConfigDict | None:
        cfg = self.run.config
        hooks = [*cfg.get('default_hooks', {}).values(), *cfg.get('custom_hooks', [])]
        # Named with or without its scope.
        kind = 'KNNEvalHook'
        return next((h for h in hooks if h and h['type'].rpartition('.')[2] == kind), None)

    def _training_dataset(self) -> ConfigDict:
        dataset = deepcopy(self.run.config.train_dataloader.dataset)
        while WRAPPER in dataset:
            dataset = dataset[WRAPPER]
        dataset.pipeline = self._plain_pipeline()
        return dataset

    def _plain_pipeline(self) -> list:
        """A pipeline without randomness, from where a run of this package has one."""
        cfg = self.run.config
        hook = self._knn_hook()
        clusters = cfg.get('default_hooks', {}).get('clusters', {})
        if hook is not None:
            return deepcopy(hook.query_dataloader.dataset.pipeline)
        if 'extract_dataloader' in clusters:
            return deepcopy(clusters.extract_dataloader.dataset.pipeline)
        if 'test_pipeline' in cfg:
            return deepcopy(cfg.test_pipeline)
        raise Absent(
            'the config has no pipeline without randomness (test_pipeline, or that of KNNEvalHook)'
        )

    def _image_set(self, dataset: ConfigDict, wanted: tuple[int, ...] = ()) -> ImageSet:
        if self.options.data_root is not None:
            dataset.data_root = self.options.data_root
        training = self.run.config.train_dataloader
        config = dict(
            batch_size=training.batch_size,
            num_workers=training.get('num_workers', 0),
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=training.get('collate_fn', dict(type='default_collate')),
            dataset=dataset,
        )
        require_registered(config)
        try:
            with self._scope():
                loader = Runner.build_dataloader(config, seed=self.options.seed)
            images = loader.dataset
            total = len(images)
        except OSError as error:
            raise Absent(
                f'the images cannot be loaded ({error}); --data says where the folder of the '
                'data set is'
            ) from error
        number = self._draw(total, wanted)
        if len(number) < total:
            images.get_subset_(number.tolist())
        classes = tuple(map(str, images.metainfo.get('classes') or ()))
        return ImageSet(loader, number, total, image_labels(images), classes)

    def _draw(self, total: int, wanted: tuple[int, ...]) -> Tensor:
        """Numbers of the images to use, the wanted ones among them, ascending."""
        num = min(self.options.max_images, total)
        order = torch.randperm(total, generator=self.options.generator())
        asked = torch.tensor([number for number in wanted if 0 <= number < total]).long()
        others = order[~torch.isin(order, asked)]
        return torch.cat([asked.unique(), others])[:num].sort().values

    def _extract(self, images: ImageSet, embed: Callable) -> Tensor:
        try:
            return extract_features(self.model, images.loader, embed).cpu()
        except UnreadableImage as error:
            # That of a worker process holds its traceback too.
            raise Absent(str(error).splitlines()[-1].rstrip('.')) from error


def _memories(model: BaseModel) -> list[tuple[str, Memory]]:
    return [(name, part) for name, part in model.named_modules() if isinstance(part, Memory)]


def _embedding(model: BaseModel, inputs: list[Tensor]) -> Tensor:
    return F.normalize(model.embed(inputs[0]).float(), dim=1)


def usable_device(name: str | None) -> str:
    """A device that is there; where none is named, a GPU if there is one.

    Raises:
        ValueError: If the device cannot be used.
    """
    name = name or ('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f'The device {name!r} cannot be used here: {reason}') from error
    return name


def folder(path: str | Path | None) -> str | None:
    """A folder that is there.

    Raises:
        FileNotFoundError: If it is not.
    """
    if path is not None and not Path(path).is_dir():
        raise FileNotFoundError(f'There is no folder {path} for --data.')
    return None if path is None else str(path)
