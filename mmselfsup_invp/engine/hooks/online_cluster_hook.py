import logging
import time

from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmselfsup.registry import HOOKS
from torch import Tensor
from torch.utils.data import DataLoader

from ...datasets import image_labels, num_images
from ...evaluation import cluster_agreement, extract_features
from ...models.memories import ClusterMemory
from ...ops import cluster_health, cluster_sizes
from ...ops.checks import require_range
from .common import check_ids, log_figures, require_epochs, unwrap
from .memory_hook import MemoryHook

# With more clusters, the adjustment of NMI for chance takes longer than it is worth.
MOST_ADJUSTED = 1000


@HOOKS.register_module()
class OnlineClusterHook(MemoryHook):
    """When things happen to the clusters of InterCLR.

    Before the run the memory is sized from the data set. Before training all images go through
    the network once, without augmentation, and are clustered, unless a checkpoint brought labels.
    After every optimiser step the batch is written and gets new labels; now and then all centroids
    are renewed and small clusters repaired.

    Logged every ``health_interval`` epochs, under ``clusters/``: the figures of
    :func:`~mmselfsup_invp.ops.cluster_health`; ``change_ratio``, the share of the labels given
    since the last time that differ from the one before; ``repaired``, clusters that were small
    since then; and, where the data set has labels, those of
    :func:`~mmselfsup_invp.evaluation.cluster_agreement` (also once for the clusters of the
    untrained network, as epoch 0).

    Args:
        extract_dataloader (dict): Config of a loader of the training images with a pipeline
            without randomness.
        centroid_interval (int): Iterations between two renewals of all centroids. Defaults to 10
            (the code; the paper renews them in each, 1).
        repair_interval (int): Iterations between two repairs of small clusters, which make the
            device wait. Defaults to 10, after the centroids; the code repairs in each, 1; the
            paper never.
        offline_interval (int): Epochs between two clusterings of all images anew, instead of the
            labels being kept fresh in every step (the ablation of the paper: 1). 0 for online
            labels. Defaults to 0.
        warmup_epochs (int): Epochs at the start without the inter branch. Defaults to 0.
        seed (int): Of k-means. Defaults to 0.
        health_interval (int): Epochs between two looks at the clusters; 0 for none.
            Defaults to 1.
        check_interval (int): Iterations between two looks for NaN features. A look makes the
            device wait; the bank is safe in between, for such features never enter it.
            Defaults to 50.

    Raises:
        ValueError: If an option is outside its valid values.
    """

    priority = 'NORMAL'

    def __init__(
        self,
        extract_dataloader: dict,
        centroid_interval: int = 10,
        repair_interval: int = 10,
        offline_interval: int = 0,
        warmup_epochs: int = 0,
        seed: int = 0,
        health_interval: int = 1,
        check_interval: int = 50,
    ) -> None:
        require_range('centroid_interval', centroid_interval, 1, 2**31, 'it counts iterations')
        require_range('repair_interval', repair_interval, 1, 2**31, 'it counts iterations')
        require_range('offline_interval', offline_interval, 0, 2**31, '0 keeps labels fresh')
        require_range('warmup_epochs', warmup_epochs, 0, 2**31, '0 starts with both branches')
        require_range('health_interval', health_interval, 0, 2**31, '0 turns the look off')
        require_range('check_interval', check_interval, 1, 2**31, 'it counts iterations')
        self.extract_dataloader = extract_dataloader
        self.centroid_interval = centroid_interval
        self.repair_interval = repair_interval
        self.offline_interval = offline_interval
        self.warmup_epochs = warmup_epochs
        self.seed = seed
        self.health_interval = health_interval
        self.check_interval = check_interval

    def before_run(self, runner: Runner) -> None:
        """Size the memory; a checkpoint to resume from is loaded after this.

        Raises:
            TypeError: If the model has no clusters, or the run does not count epochs.
        """
        self._truth: Tensor | None = None
        self._repaired = 0
        model = unwrap(runner.model)
        memory = cluster_memory(model)
        require_epochs(runner, self)
        self._num_images = num_images(runner.train_dataloader.dataset)
        memory.fit(self._num_images)
        if hasattr(model, 'queue'):
            model.queue.fit(self._num_images)
        _warn_of_limits(model, self._num_images)

    def before_train(self, runner: Runner) -> None:
        """Cluster all images, unless a checkpoint brought labels."""
        if self.health_interval:
            self._truth = image_labels(runner.train_dataloader.dataset)
        memory = cluster_memory(unwrap(runner.model))
        if not memory.clustered:
            self._cluster(runner, keep_bank=False)
            if self._truth is not None:
                log_figures(runner, 'clusters', self._agreement(memory), epoch=0)

    def before_train_epoch(self, runner: Runner) -> None:
        """Turn the branch on after the warm-up; cluster anew if that is the policy."""
        branch = getattr(unwrap(runner.model), 'branch', None)
        if branch is not None:
            branch.ramp = float(runner.epoch >= self.warmup_epochs)
        interval = self.offline_interval
        if interval and runner.epoch and runner.epoch % interval == 0:
            self._cluster(runner, keep_bank=True)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Check the ids while they are still on the host."""
        cluster_memory(unwrap(runner.model)).monitor.iteration = runner.iter + 1
        if data_batch is not None:
            check_ids(data_batch['data_samples'], self._num_images)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Write the batch into the memory; renew centroids and repair clusters in their turn."""
        model = unwrap(runner.model)
        memory = cluster_memory(model)
        online = self.offline_interval == 0
        memory.commit(refresh=online)
        if hasattr(model, 'queue'):
            model.queue.commit()
        if online and self.every_n_train_iters(runner, self.centroid_interval):
            memory.update_centroids()
        if online and self.every_n_train_iters(runner, self.repair_interval):
            self._repaired += memory.repair()
        if self.every_n_train_iters(runner, self.check_interval):
            memory.monitor.check()

    def after_train_epoch(self, runner: Runner) -> None:
        """Look at the clusters."""
        memory = cluster_memory(unwrap(runner.model))
        memory.monitor.check()
        if self.every_n_epochs(runner, self.health_interval):
            figures = self._health(memory) | self._agreement(memory)
            log_figures(runner, 'clusters', figures)

    def _health(self, memory: ClusterMemory) -> dict[str, float]:
        figures = cluster_health(cluster_sizes(memory.labels, memory.num_clusters))
        ratio = memory.label_change_ratio()
        if ratio is not None:
            figures['change_ratio'] = ratio
        figures['repaired'] = float(self._repaired)
        self._repaired = 0
        return figures

    def _agreement(self, memory: ClusterMemory) -> dict[str, float]:
        if self._truth is None:
            return {}
        adjusted = memory.num_clusters <= MOST_ADJUSTED
        return cluster_agreement(memory.labels, self._truth, adjusted)

    def _cluster(self, runner: Runner, keep_bank: bool) -> None:
        if not isinstance(self.extract_dataloader, DataLoader):
            self.extract_dataloader = runner.build_dataloader(
                self.extract_dataloader, seed=runner.seed
            )
        model = unwrap(runner.model)
        memory = cluster_memory(model)
        runner.logger.info(
            f'Clustering {self._num_images} images into {memory.num_clusters} clusters: '
            'extracting their features.'
        )
        start = time.perf_counter()
        feature = extract_features(model, self.extract_dataloader, _embed)
        extracted = time.perf_counter()
        memory.cluster(feature, keep_bank=keep_bank, seed=self.seed)
        runner.logger.info(
            f'Clustered: {extracted - start:.1f} s for the features, '
            f'{time.perf_counter() - extracted:.1f} s for k-means.'
        )


def cluster_memory(model: BaseModel) -> ClusterMemory:
    """The memory of the branch, or that of the host's ODC.

    Raises:
        TypeError: If the model has neither.
    """
    branch = getattr(model, 'branch', None)
    memory = getattr(model, 'memory_bank', None) if branch is None else branch.memory
    if not isinstance(memory, ClusterMemory):
        raise TypeError(
            f'OnlineClusterHook needs a model with clusters, {type(model).__name__} has none. Use '
            'it with InterCLR, MomentumInterCLR, InvP(branch=...), or ODC(memory_bank=dict('
            "type='ODCClusterMemory', ...))."
        )
    return memory


def _embed(model: BaseModel, inputs: list[Tensor]) -> Tensor:
    """Embeddings, ``(B, D)``; the host's algorithms have no ``embed``."""
    if hasattr(model, 'embed'):
        return model.embed(inputs[0])
    return model.neck(model.extract_feat(inputs))[0].flatten(1)


def _warn_of_limits(model: BaseModel, images: int) -> None:
    """Say where the data set is smaller than what the branches draw from it."""
    for part in (getattr(model, 'branch', None), model.head):
        num = getattr(part, 'num_negatives', 0)
        if num >= images:
            print_log(
                f'num_negatives = {num} of {type(part).__name__} is more than {images} images '
                'have to offer: negatives repeat. A quarter of the images is plenty.',
                logger='current',
                level=logging.WARNING,
            )
