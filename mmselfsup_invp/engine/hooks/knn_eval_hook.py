from collections.abc import Sequence
from typing import Annotated

from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor
from torch.nn import functional as F

from ...compat.host import HOOKS
from ...datasets import image_labels, num_images
from ...evaluation import extract_features, knn_accuracy
from ...models.memories import ClusterMemory, PropagationMemory, memories_of
from ...options import Choice, PositiveInt, Temperature, checked
from .common import build_loader, log_metrics, unit_embedding, unwrap


def backbone_features(model: BaseModel, inputs: list[Tensor]) -> Tensor:
    """Unit pooled features of the last stage, float32, ``(B, C)``."""
    pooled = F.adaptive_avg_pool2d(model.extract_feat(inputs)[-1].float(), 1).flatten(1)
    return F.normalize(pooled, dim=1)


# Features of the queries for each gallery.
GALLERIES = {'bank': unit_embedding, 'backbone': backbone_features}
Gallery = Annotated[str, Choice(GALLERIES)]
# What to do if a gallery and the training labels do not belong together.
REMEDIES = {
    'bank': 'Use the config and the data that the checkpoint was trained with.',
    'backbone': 'gallery_dataloader must list the images of train_dataloader.',
}


@HOOKS.register_module()
@checked
class KNNEvalHook(Hook):
    """Evaluates the weighted kNN accuracy during training, if labels exist.

    The logged name states the protocol, as in ``knn/bank_k200_t0.07`` (percent): the gallery, the
    number of neighbours and the temperature of the vote. Features are not kept between
    evaluations. If labels are missing, the hook warns once and does nothing; an empty bank, that
    of a network that was never trained, is skipped with a warning. With several processes all of
    them evaluate the network of the main process, which is the one that is saved
    (:func:`~mmselfsup_invp.evaluation.extract_features`). Loaders are built before training.

    ``default_hooks.knn=None`` disables the hook of a config.

    Args:
        query_dataloader (dict): Config of the loader of the images to classify, with labels and a
            pipeline without randomness.
        gallery (str | Sequence[str]): ``'bank'``: the gallery is the memory bank with the training
            labels, the queries are embeddings of the neck (the validation of the official code);
            ``'backbone'``: both are pooled backbone features, which needs ``gallery_dataloader``.
            Several are evaluated one after the other. Defaults to ``'bank'``.
        gallery_dataloader (dict, optional): Config of the loader of the training images with the
            pipeline of the queries. Defaults to None.
        k (int): Neighbours that vote; limited to the size of the gallery. Defaults to 200.
        temperature (float): Temperature of the vote, positive. Defaults to 0.07.
        interval (int): Epochs between two evaluations; the last epoch is always evaluated.
            Defaults to 1.

    Raises:
        ValueError: If an option is outside its valid values, or the gallery's loader is missing.

    Example:
        >>> default_hooks = dict(
        ...     knn=dict(type='KNNEvalHook', query_dataloader=query_dataloader)
        ... )  # doctest: +SKIP
    """

    priority = 'LOW'  # After the memory has committed the last batch of the epoch.

    def __init__(
        self,
        query_dataloader: dict,
        gallery: Gallery | Sequence[Gallery] = 'bank',
        gallery_dataloader: dict | None = None,
        k: PositiveInt = 200,
        temperature: Temperature = 0.07,
        interval: PositiveInt = 1,
    ) -> None:
        self.galleries = [gallery] if isinstance(gallery, str) else list(gallery)
        if 'backbone' in self.galleries and gallery_dataloader is None:
            raise ValueError(
                "gallery='backbone' needs gallery_dataloader: the training images with the "
                'pipeline of query_dataloader.'
            )
        self.query_dataloader = query_dataloader
        self.gallery_dataloader = gallery_dataloader
        self.k = k
        self.temperature = temperature
        self.interval = interval
        self._labels: tuple[Tensor | None, ...] | None = None

    def before_run(self, runner: Runner) -> None:
        """Build the loaders and check the galleries, so that errors come before training."""
        self._load(runner)
        for name in self.galleries:
            self._check_rows(runner, name)

    def after_train_epoch(self, runner: Runner) -> None:
        """Evaluate and log."""
        if self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner):
            metrics = self.evaluate(runner)
            if metrics:
                log_metrics(runner, 'knn', metrics)

    def evaluate(self, runner: Runner) -> dict[str, float]:
        """Accuracy of the model in percent, by gallery and protocol; empty without labels."""
        query_label, gallery_label = self._load(runner)
        if query_label is None or gallery_label is None:
            return {}
        metrics = {}
        for name in self._filled(runner):
            self._check_rows(runner, name)
            gallery = self._gallery(runner, name)
            k = min(self.k, len(gallery))
            query = extract_features(runner.model, self.query_dataloader, GALLERIES[name])
            labels = (query_label.to(query.device), gallery_label.to(query.device))
            metrics[f'{name}_k{k}_t{self.temperature:g}'] = knn_accuracy(
                query, labels[0], gallery, labels[1], k, self.temperature
            )
        return metrics

    def _load(self, runner: Runner) -> tuple[Tensor | None, ...]:
        """Build the loaders and read the labels of the queries and of the training images."""
        if self._labels is None:
            self.query_dataloader = build_loader(runner, self.query_dataloader)
            if 'backbone' in self.galleries:
                self.gallery_dataloader = build_loader(runner, self.gallery_dataloader)
            datasets = (self.query_dataloader.dataset, runner.train_dataloader.dataset)
            self._labels = tuple(map(image_labels, datasets))
            if any(labels is None for labels in self._labels):
                runner.logger.warning(
                    'kNN evaluation is skipped: it needs one label for each query and each '
                    'training image. default_hooks.knn=None disables it.'
                )
        return self._labels

    def _filled(self, runner: Runner) -> list[str]:
        """The galleries except for a bank without rows."""
        if 'bank' not in self.galleries or len(memory_bank(unwrap(runner.model))):
            return self.galleries
        others = [name for name in self.galleries if name != 'bank']
        if not others:
            raise ValueError(
                'The bank is empty and there is no other gallery. Load a checkpoint that holds a '
                "bank, or use gallery='backbone' with gallery_dataloader."
            )
        runner.logger.warning("The bank is empty: gallery 'bank' is left out of the kNN accuracy.")
        return others

    def _gallery(self, runner: Runner, name: str) -> Tensor:
        model = unwrap(runner.model)
        if name == 'bank':
            return memory_bank(model)
        return extract_features(model, self.gallery_dataloader, GALLERIES[name])

    def _check_rows(self, runner: Runner, name: str) -> None:
        """Raise if the training labels cannot be those of the gallery's rows."""
        if name == 'bank':
            rows = len(memory_bank(unwrap(runner.model)))
        else:
            rows = num_images(self.gallery_dataloader.dataset)
        images = num_images(runner.train_dataloader.dataset)
        if rows and rows != images:
            raise ValueError(
                f'The gallery {name!r} has {rows} rows, train_dataloader lists {images} images: '
                f'they are of different data sets. {REMEDIES[name]}'
            )


def memory_bank(model: BaseModel) -> Tensor:
    """The bank with a feature for every image, shape ``(N, D)``; ``ValueError`` without one."""
    memories = memories_of(model)
    for memory in memories:
        if isinstance(memory, (PropagationMemory, ClusterMemory)):
            return memory.bank
    found = ', '.join(type(memory).__name__ for memory in memories) or 'no memory'
    raise ValueError(
        f"gallery='bank' needs a memory with a feature of every image, {type(model).__name__} has "
        f"{found}. Use gallery='backbone'."
    )
