from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmselfsup.models import BaseModel
from mmselfsup.registry import HOOKS
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ...datasets import image_labels, num_images
from ...evaluation import extract_features, knn_accuracy
from ...ops.checks import require_choice, require_positive, require_range
from .common import log_figures, unwrap


def bank_features(model: BaseModel, inputs: list[Tensor]) -> Tensor:
    """Unit embeddings, ``(B, D)``, to be compared with the rows of the bank."""
    return model.embed(inputs[0])


def backbone_features(model: BaseModel, inputs: list[Tensor]) -> Tensor:
    """Unit pooled features of the last stage, float32, ``(B, C)``."""
    pooled = F.adaptive_avg_pool2d(model.extract_feat(inputs)[-1].float(), 1).flatten(1)
    return F.normalize(pooled, dim=1)


GALLERIES = {'bank': bank_features, 'backbone': backbone_features}
# What to do where a gallery is not that of the training labels.
REMEDIES = {
    'bank': 'Give the config that the checkpoint was trained with, and the data of that run.',
    'backbone': 'Let gallery_dataloader list the images of train_dataloader.',
}


@HOOKS.register_module()
class KNNEvalHook(Hook):
    """Follow the weighted kNN accuracy during training, where labels exist.

    The protocol stands in the key of the log, such as ``knn/bank_k200_t0.07`` (percent): what the
    gallery is, how many neighbours vote, and the temperature of the vote. Nothing is kept between
    two evaluations. Without labels the hook says so once and does nothing. A bank that is still
    empty, of a network that was never trained, is left out with a warning. With several processes
    all evaluate the network of the main one, which is saved
    (:func:`~mmselfsup_invp.evaluation.extract_features`).

    Args:
        query_dataloader (dict): Config of the loader of the images to classify, with labels and a
            pipeline without randomness.
        gallery (str | Sequence[str]): ``'bank'``: the bank with the training labels as the gallery
            and embeddings of the neck as queries (the official code's validation); ``'backbone'``:
            pooled backbone features on both sides, which needs ``gallery_dataloader``. Several
            are evaluated one after the other. Defaults to ``'bank'``.
        gallery_dataloader (dict, optional): Config of the loader of the training images with the
            pipeline of the queries. Defaults to None.
        k (int): Neighbours that vote; lowered to the gallery's size. Defaults to 200.
        temperature (float): Of the vote, positive. Defaults to 0.07.
        interval (int): Epochs between two evaluations; the last epoch is always evaluated.
            Defaults to 1.

    Raises:
        ValueError: If an option is outside its valid values, or the gallery's loader is missing.
    """

    priority = 'LOW'  # After the memory took the epoch's last batch.

    def __init__(
        self,
        query_dataloader: dict,
        gallery: str | Sequence[str] = 'bank',
        gallery_dataloader: dict | None = None,
        k: int = 200,
        temperature: float = 0.07,
        interval: int = 1,
    ) -> None:
        self.galleries = [gallery] if isinstance(gallery, str) else list(gallery)
        for name in self.galleries:
            require_choice('gallery', name, GALLERIES)
        if 'backbone' in self.galleries and gallery_dataloader is None:
            raise ValueError(
                "gallery='backbone' needs gallery_dataloader: the training images with the "
                'pipeline of query_dataloader.'
            )
        require_range('k', k, 1, 2**31, 'somebody must vote')
        require_positive('temperature', temperature, '0.07')
        require_range('interval', interval, 1, 2**31, 'it counts epochs')
        self.query_dataloader = query_dataloader
        self.gallery_dataloader = gallery_dataloader
        self.k = k
        self.temperature = temperature
        self.interval = interval
        self._labels: tuple[Tensor | None, ...] | None = None

    def after_train_epoch(self, runner: Runner) -> None:
        """Evaluate and log."""
        if self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner):
            figures = self.evaluate(runner)
            if figures:
                log_figures(runner, 'knn', figures)

    def evaluate(self, runner: Runner) -> dict[str, float]:
        """Measure the accuracy of the model as it is.

        Args:
            runner (Runner): Gives the model and the training data set.

        Returns:
            dict[str, float]: Percent by gallery and protocol; empty where labels are missing.

        Raises:
            ValueError: If a gallery has not a row for every training label, or the bank is the
                only gallery and cannot be one.
        """
        queries = self._loader(runner, 'query_dataloader')
        if self._labels is None:
            datasets = (queries.dataset, runner.train_dataloader.dataset)
            self._labels = tuple(map(image_labels, datasets))
        query_label, gallery_label = self._labels
        if query_label is None or gallery_label is None:
            runner.logger.warning(
                'kNN evaluation needs one label for each image, of the queries and of the training '
                'images; it is left out.'
            )
            return {}
        figures = {}
        for name in self._filled(runner):
            gallery = self._gallery(runner, name, len(gallery_label))
            k = min(self.k, len(gallery))
            query = extract_features(runner.model, queries, GALLERIES[name])
            labels = (query_label.to(query.device), gallery_label.to(query.device))
            figures[f'{name}_k{k}_t{self.temperature:g}'] = knn_accuracy(
                query, labels[0], gallery, labels[1], k, self.temperature
            )
        return figures

    def _filled(self, runner: Runner) -> list[str]:
        """The galleries but for a bank that holds nothing yet."""
        if 'bank' not in self.galleries or len(unwrap(runner.model).memory):
            return self.galleries
        others = [name for name in self.galleries if name != 'bank']
        if not others:
            raise ValueError(
                'The bank is empty and there is no other gallery. Load a checkpoint that holds a '
                "bank, or use gallery='backbone' with gallery_dataloader."
            )
        runner.logger.warning("The bank is empty: gallery 'bank' is left out of the kNN accuracy.")
        return others

    def _gallery(self, runner: Runner, name: str, num_labels: int) -> Tensor:
        model = unwrap(runner.model)
        if name == 'backbone':
            images = self._loader(runner, 'gallery_dataloader')
            _check_length(name, num_images(images.dataset), num_labels)
            return extract_features(model, images, GALLERIES[name])
        if not (model.memory.holds_images and hasattr(model.memory, 'bank')):
            raise ValueError(
                f"gallery='bank' needs a row for every image, {type(model.memory).__name__} has "
                "none. Use gallery='backbone'."
            )
        _check_length(name, len(model.memory), num_labels)
        return model.memory.bank

    def _loader(self, runner: Runner, name: str) -> DataLoader:
        """Build a loader on first use; its workers end with every pass over the data."""
        loader = getattr(self, name)
        if not isinstance(loader, DataLoader):
            loader = runner.build_dataloader(loader, seed=runner.seed)
            setattr(self, name, loader)
        return loader


def _check_length(name: str, rows: int, labels: int) -> None:
    """Raise if the labels cannot be those of the rows."""
    if rows != labels:
        raise ValueError(
            f'The gallery {name!r} has {rows} rows, train_dataloader lists {labels} images: they '
            f'are of different data. {REMEDIES[name]}'
        )
