"""Network, images and features of a run."""

from collections.abc import Callable
from copy import deepcopy
from functools import cached_property

import torch
from mmengine.registry import DefaultScope
from torch import Tensor

from ..compat.host import MODELS, BaseModel
from ..config import require_registered
from ..datasets.transforms.loading import UnreadableImage
from ..engine.hooks.common import unit_embedding
from ..engine.hooks.knn_eval_hook import backbone_features
from ..evaluation import TrainingRun, extract_features
from ..models.memories import Memory
from ..ops import knn_graph
from .blocks import ImagesUnavailable
from .images import ImageSet, query_images, training_images
from .options import ReportOptions

# Values of the InvP paper, for methods without a graph.
NUM_NEIGHBOURS, HOPS = 4, 3


class RunData:
    """What the sections of a report show; each property is computed when it is first used."""

    def __init__(self, run: TrainingRun, options: ReportOptions) -> None:
        self.run = run
        self.options = options
        parts = [run.config.get(name) for name in ('model', 'data_preprocessor')]
        require_registered(parts, f'The config in {run.checkpoint}')

    @cached_property
    def model(self) -> BaseModel:
        """The network of the checkpoint in evaluation mode; its memories are not loaded."""
        cfg = deepcopy(self.run.config)
        if cfg.get('data_preprocessor'):
            cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
            model = MODELS.build(cfg.model)
        # Training shortens a queue to the data set: its rows do not fit the model in the config.
        memories = tuple(f'{name}.' for name in _memories(model))
        state = {
            name: value for name, value in self.run.state.items() if not name.startswith(memories)
        }
        missing = [
            name
            for name, value in model.state_dict().items()
            if not name.startswith(memories) and getattr(state.get(name), 'shape', 0) != value.shape
        ]
        if missing:
            raise ValueError(
                f'{self.run.checkpoint} has no weights of the right shape for {len(missing)} of '
                f'{type(model).__name__} ({", ".join(missing[:3])} ...). Give a checkpoint of '
                'this run.'
            )
        model.load_state_dict(state, strict=False)
        return model.to(self.options.device).eval()

    @cached_property
    def memories(self) -> dict[str, Memory]:
        """The memories of the model by name, with initial values."""
        return _memories(self.model)

    def saved(self, memory: str, buffer: str) -> Tensor | None:
        """Return a buffer of a memory in the checkpoint, or None if there is none."""
        return self.run.state.get(f'{memory}.{buffer}')

    @cached_property
    def gallery(self) -> ImageSet:
        """The training images."""
        return training_images(self.run, self.options)

    @cached_property
    def queries(self) -> ImageSet:
        """The images that ``KNNEvalHook`` classifies."""
        return query_images(self.run, self.options)

    @cached_property
    def embedding(self) -> Tensor:
        """Unit features of the training images in the space of the loss, ``(N, D)``."""
        if not hasattr(self.model, 'embed'):
            return self.backbone
        return self._extract(self.gallery, unit_embedding)

    @cached_property
    def backbone(self) -> Tensor:
        """Unit pooled features of the training images, ``(N, C)``."""
        return self._extract(self.gallery, backbone_features)

    @cached_property
    def query_backbone(self) -> Tensor:
        """Unit pooled features of the queries, ``(Q, C)``."""
        return self._extract(self.queries, backbone_features)

    @property
    def space(self) -> str:
        """What :attr:`embedding` is, in words."""
        embeds = hasattr(self.model, 'embed')
        return 'embeddings of the neck' if embeds else 'pooled features of the backbone'

    @cached_property
    def graph(self) -> tuple[Tensor, str]:
        """Neighbours of the training images, int64, ``(N, k)``, and their source in words."""
        for name, memory in self.memories.items():
            neighbours = self.saved(name, 'neighbours') if memory.holds_images else None
            if neighbours is not None and is_graph(neighbours, len(self.gallery.index)):
                return neighbours, 'the graph in the checkpoint'
        k = min(self._option('memory', 'num_neighbours', NUM_NEIGHBOURS), len(self.embedding) - 1)
        source = f'the graph of the {k} nearest neighbours by the {self.space}'
        return knn_graph(self.embedding, k), source

    @property
    def hops(self) -> int:
        """Number of hops of the propagation."""
        return self._option('head', 'hops', HOPS)

    @cached_property
    def anchors(self) -> list[int]:
        """Rows of the images whose positives are shown."""
        index, total = self.gallery.index, self.gallery.total
        if not self.options.anchors:
            order = torch.randperm(len(index), generator=self.options.generator())
            return order[: self.options.num_anchors].tolist()
        for anchor in self.options.anchors:
            if not 0 <= anchor < total:
                raise ValueError(
                    f'anchor {anchor} is outside the valid range 0 to {total - 1}: the run was '
                    f'trained on {total} images.'
                )
        return torch.searchsorted(index, torch.tensor(self.options.anchors)).tolist()

    def _option(self, part: str, name: str, default: int) -> int:
        return (self.run.config.model.get(part) or {}).get(name, default)

    def _extract(self, images: ImageSet, embed: Callable) -> Tensor:
        try:
            return extract_features(self.model, images.loader, embed).cpu()
        except UnreadableImage as error:
            # If a worker process raised it, the message starts with the traceback of the worker.
            raise ImagesUnavailable(str(error).splitlines()[-1].rstrip('.')) from error


def is_graph(neighbours: Tensor, rows: int) -> bool:
    """Whether a tensor of a checkpoint holds the edges of so many rows; -1 for no edge."""
    if neighbours.shape[:1] != (rows,) or neighbours.dim() != 2 or neighbours.dtype != torch.int64:
        return False
    return not neighbours.numel() or bool(((neighbours >= -1) & (neighbours < rows)).all())


def _memories(model: BaseModel) -> dict[str, Memory]:
    return {name: part for name, part in model.named_modules() if isinstance(part, Memory)}
