import time

from mmengine.model import BaseModel
from mmengine.runner import Runner

from ...compat.host import HOOKS
from ...evaluation import cluster_agreement, extract_features
from ...models.branches import OnlineClusterBranch
from ...models.heads import BankMarginHead
from ...models.memories import ClusterMemory, KeyQueue, ODCClusterMemory
from ...ops import cluster_sizes
from ...ops.clustering import cluster_health
from ...options import NonNegativeInt, PositiveInt, Seed, checked
from .common import Batch, build_loader, log_metrics, starts_epoch, unit_embedding, unwrap
from .memory_hook import MemoryHook

# Clusters up to which NMI is adjusted for chance; the adjustment takes too long with more.
MAX_ADJUSTED = 1000


@HOOKS.register_module()
@checked
class OnlineClusterHook(MemoryHook):
    """Clusters the images of InterCLR and ODC and keeps the clusters up to date.

    Beside what :class:`MemoryHook` does, it extracts the features of all images before training,
    without augmentation, and clusters them, unless a checkpoint contained labels. A committed
    batch gets new labels; at intervals all centroids are updated and small clusters repaired.

    Logged every ``health_interval`` epochs, under ``clusters/``: the metrics of
    :func:`~mmselfsup_invp.ops.cluster_health`; ``change_ratio``, the share of the labels assigned
    since the last log that differ from the label before; ``repaired``, the number of small
    clusters repaired since then; and, if the data set has labels, the metrics of
    :func:`~mmselfsup_invp.evaluation.cluster_agreement` (also as epoch 0, for the clusters of the
    untrained network).

    Args:
        extract_dataloader (dict): Config of a loader of the training images with a pipeline
            without randomness.
        centroid_interval (int): Iterations between two updates of all centroids. Defaults to 10
            (the code; the paper updates them in every iteration, 1).
        repair_interval (int): Iterations between two repairs of small clusters, each of which
            synchronises with the device. Defaults to 10, after the centroids; the code repairs
            in every iteration, 1; the paper never.
        offline_interval (int): Epochs between two clusterings of all images, which then replace
            the labels assigned in every iteration (the ablation of the paper: 1). Defaults to 0,
            online labels.
        warmup_epochs (int): Epochs at the start without the inter branch. Defaults to 0.
        seed (int): Seed of k-means. Defaults to 0.
        **kwargs: See :class:`MemoryHook`.

    Example:
        >>> default_hooks = dict(
        ...     clusters=dict(type='OnlineClusterHook', extract_dataloader=gallery_dataloader)
        ... )  # doctest: +SKIP
    """

    memory_types = (ClusterMemory,)
    other_types = (KeyQueue,)
    models = (
        'InterCLR, MomentumInterCLR, InvP(branch=...), or ODC(memory_bank=dict('
        "type='ODCClusterMemory', ...))"
    )

    def __init__(
        self,
        extract_dataloader: dict,
        centroid_interval: PositiveInt = 10,
        repair_interval: PositiveInt = 10,
        offline_interval: NonNegativeInt = 0,
        warmup_epochs: NonNegativeInt = 0,
        seed: Seed = 0,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.extract_dataloader = extract_dataloader
        self.centroid_interval = centroid_interval
        self.repair_interval = repair_interval
        self.offline_interval = offline_interval
        self.refresh_on_commit = offline_interval == 0
        self.warmup_epochs = warmup_epochs
        self.seed = seed
        self._repaired = 0

    def collapse_advice(self, model: BaseModel) -> str:
        """Options to change if the features collapse."""
        if not isinstance(self.memory, ODCClusterMemory):
            return super().collapse_advice(model)
        return (
            'a lower learning rate (optim_wrapper.optimizer.lr), more frequent repairs '
            '(repair_interval=1 in OnlineClusterHook), fewer clusters '
            '(model.memory_bank.num_classes and model.head.num_classes)'
        )

    def before_run(self, runner: Runner) -> None:
        """Fit the memories, build the loader and warn of settings that the data set limits."""
        super().before_run(runner)
        self.extract_dataloader = build_loader(runner, self.extract_dataloader)
        for text in limited_negatives(unwrap(runner.model), self.num_images):
            runner.logger.warning(text)

    def before_train(self, runner: Runner) -> None:
        """Cluster all images, unless a checkpoint contained labels."""
        super().before_train(runner)
        if not self.memory.clustered:
            self._cluster(runner, keep_bank=False)
            if self.true_labels is not None:
                log_metrics(runner, 'clusters', self._agreement(), epoch=0)

    def before_train_epoch(self, runner: Runner) -> None:
        """Enable the branch after the warm-up; cluster anew with ``offline_interval``."""
        for part in unwrap(runner.model).modules():
            if isinstance(part, OnlineClusterBranch):
                part.ramp = float(runner.epoch >= self.warmup_epochs)
        interval = self.offline_interval
        if starts_epoch(runner) and interval and runner.epoch and runner.epoch % interval == 0:
            self._cluster(runner, keep_bank=True)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Batch = None, outputs: Batch = None
    ) -> None:
        """Commit the batch; update the centroids and repair small clusters at their intervals."""
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if self.offline_interval:
            return
        if self.every_n_train_iters(runner, self.centroid_interval):
            self.memory.update_centroids()
        if self.every_n_train_iters(runner, self.repair_interval):
            self._repaired += self.memory.repair()

    def log_health(self, runner: Runner) -> None:
        """Log the state of the clusters."""
        memory = self.memory
        metrics = cluster_health(cluster_sizes(memory.labels, memory.num_clusters))
        change_ratio = memory.label_change_ratio()
        if change_ratio is not None:
            metrics['change_ratio'] = change_ratio
        metrics['repaired'] = float(self._repaired)
        self._repaired = 0
        if self.true_labels is not None:
            metrics |= self._agreement()
        log_metrics(runner, 'clusters', metrics)
        self.warn_of_few_labels(runner, 'clusters', metrics['entropy'])

    def _agreement(self) -> dict[str, float]:
        adjusted = self.memory.num_clusters <= MAX_ADJUSTED
        return cluster_agreement(self.memory.labels, self.true_labels, adjusted)

    def _cluster(self, runner: Runner, keep_bank: bool) -> None:
        runner.logger.info(
            f'Clustering {self.num_images} images into {self.memory.num_clusters} clusters: '
            'extracting their features.'
        )
        start = time.perf_counter()
        feature = extract_features(unwrap(runner.model), self.extract_dataloader, unit_embedding)
        extracted = time.perf_counter()
        self.memory.cluster(feature, keep_bank=keep_bank, seed=self.seed)
        runner.logger.info(
            f'Clustered: {extracted - start:.1f} s for the features, '
            f'{time.perf_counter() - extracted:.1f} s for k-means.'
        )


def limited_negatives(model: BaseModel, num_images: int) -> list[str]:
    """Describe the parts of a model that draw more negatives than there are images."""
    parts = [
        part for part in model.modules() if isinstance(part, (OnlineClusterBranch, BankMarginHead))
    ]
    return [
        f'num_negatives = {part.num_negatives} of {type(part).__name__} exceeds what '
        f'{num_images} images provide: negatives repeat. A quarter of the images is sufficient.'
        for part in parts
        if part.num_negatives >= num_images
    ]
