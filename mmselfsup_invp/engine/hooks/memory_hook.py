from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor

from ...datasets import image_labels, num_images
from ...evaluation.checkpoints import check_fit
from ...models.algorithms import EmbeddingModel
from ...models.memories import Memory, memories_of
from ...options import NonNegativeInt, PositiveInt, checked
from .common import Batch, check_ids, log_metrics, require_epochs, unwrap
from .feature_similarity import FeatureSimilarity
from .image_order import (
    IMAGE_ORDER,
    IMAGE_SIZES,
    image_order,
    image_sizes,
    require_same_order,
    require_same_sizes,
)

# Mean cosine similarity above which the features count as collapsed. In the first four epochs of
# InvP on the digits it is at most 0.93 with a linear neck and up to 0.99 with an MLP.
MAX_SIMILARITY = 0.95
# Normalised entropy of the class sizes below which labels count as collapsed. On the digits it is
# above 0.9 for SeLa, ODC and InterCLR; for SeLa at 100 times the learning rate its median is 0.24.
MIN_ENTROPY = 0.5


@checked
class MemoryHook(Hook):
    """Base of the hooks that maintain the memories of a model.

    - Before the run, the memories take their size from the data set.
    - Every iteration, the ids of the batch are checked; after the optimiser step the memories
      commit the batch.
    - Every ``check_interval`` iterations and at the end of every epoch, the run stops if features
      were NaN or Inf. They never enter a memory, whatever the interval.
    - Every epoch, ``features/similarity`` is logged, the mean cosine similarity between the
      features of different images (:class:`FeatureSimilarity`); a warning follows if they have
      collapsed.
    - Checkpoints store the order and the file sizes of the images, and a run resumes only from a
      checkpoint of the same model and the same images. (MMEngine loads the weights that fit and
      logs the others.)

    A subclass names the memories that it maintains and adds its schedule and its log.

    Args:
        check_interval (int): Iterations between two checks for NaN and Inf. A check synchronises
            with the device. Defaults to 50.
        health_interval (int): Epochs between two calls of :meth:`log_health`; 0 disables them.
            Defaults to 1.
    """

    priority = 'NORMAL'

    # Types of memories, one of which the model must have; others that are maintained with it.
    memory_types: tuple[type[Memory], ...] = ()
    other_types: tuple[type[Memory], ...] = ()
    # Models to name if there is no such memory.
    models = ''
    # Whether commit() also refreshes the graph or the labels of the visited images.
    refresh_on_commit = True

    memory: Memory
    memories: list[Memory]
    num_images: int
    true_labels: Tensor | None = None

    def __init__(
        self, check_interval: PositiveInt = 50, health_interval: NonNegativeInt = 1
    ) -> None:
        self.check_interval = check_interval
        self.health_interval = health_interval
        self._order: str | None = None
        self._sizes: Tensor | None = None
        self._similarity: FeatureSimilarity | None = None

    def collapse_advice(self, model: BaseModel) -> str:
        """Options to change if the features collapse, most effective first."""
        temperature = getattr(model, 'temperature_option', EmbeddingModel.temperature_option)
        return (
            'a linear neck (model.neck.hid_channels=None), a lower temperature '
            f'({temperature}), a lower learning rate (optim_wrapper.optimizer.lr)'
        )

    def log_health(self, runner: Runner) -> None:
        """Log the state of the memories at the end of an epoch."""

    def before_run(self, runner: Runner) -> None:
        """Fit the memories to the data set; a checkpoint to resume from is loaded later."""
        model = unwrap(runner.model)
        self.memory = self.find_memory(model)
        found = memories_of(model)
        self.memories = [one for one in found if isinstance(one, self.other_types)]
        self.memories.insert(0, self.memory)
        require_epochs(runner, self)
        self.num_images = num_images(runner.train_dataloader.dataset)
        for memory in self.memories:
            memory.fit(self.num_images)
            memory.refresh = self.refresh_on_commit

    def before_train(self, runner: Runner) -> None:
        """Read the labels of the data set, if any, and observe the features."""
        if self.health_interval:
            self.true_labels = image_labels(runner.train_dataloader.dataset)
        # A model may have two such hooks, as InvP with a branch; the first one observes.
        first = next(hook for hook in runner.hooks if isinstance(hook, MemoryHook))
        if first is self:
            self._similarity = FeatureSimilarity(unwrap(runner.model).neck)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Batch = None) -> None:
        """Check the ids while they are still on the host."""
        for memory in self.memories:
            memory.monitor.iteration = runner.iter + 1
        if data_batch is not None:
            check_ids(data_batch['data_samples'], self.num_images)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Batch = None, outputs: Batch = None
    ) -> None:
        """Commit the batch to the memories."""
        for memory in self.memories:
            memory.commit()
        if self.every_n_train_iters(runner, self.check_interval):
            self.check_finite()

    def after_train_epoch(self, runner: Runner) -> None:
        """Finish the epoch in the memories and log their state."""
        self.check_finite()
        for memory in self.memories:
            memory.end_epoch()
        if self._similarity is not None:
            self._log_similarity(runner, self._similarity.compute())
        if self.every_n_epochs(runner, self.health_interval):
            self.log_health(runner)

    def after_train(self, runner: Runner) -> None:
        """Stop observing the features."""
        if self._similarity is not None:
            self._similarity.remove()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store the order of the images, which is the order of the rows, and their sizes."""
        for memory in self.memories:
            memory.require_whole_state()
        if any(memory.holds_images for memory in self.memories):
            checkpoint['meta'][IMAGE_ORDER] = self._image_order(runner)
            if self._sizes is None:
                self._sizes = image_sizes(runner.train_dataloader.dataset)
            checkpoint['meta'][IMAGE_SIZES] = self._sizes

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare a checkpoint to resume from with the model and the data set."""
        if not runner._resume:
            return
        source = runner._load_from or f'The latest checkpoint in {runner.work_dir}'
        check_fit(unwrap(runner.model), checkpoint['state_dict'], source)
        meta = checkpoint.get('meta', {})
        if IMAGE_ORDER in meta and any(memory.holds_images for memory in self.memories):
            require_same_order(meta[IMAGE_ORDER], self._image_order(runner))
            if IMAGE_SIZES in meta:
                require_same_sizes(meta[IMAGE_SIZES], runner.train_dataloader.dataset)

    def warn_of_few_labels(self, runner: Runner, group: str, entropy: float) -> None:
        """Warn if most images share a few labels, by the normalised entropy of their sizes."""
        if entropy < MIN_ENTROPY:
            runner.logger.warning(
                f'{group}: most images share a few labels (normalised entropy of the class sizes '
                f'{entropy:.2f}, 1 if all have the same size). Try, in this order: '
                f'{self.collapse_advice(unwrap(runner.model))}.'
            )

    def check_finite(self) -> None:
        """Raise ``NonFiniteFeatures`` if features were NaN or Inf since the last check."""
        for memory in self.memories:
            memory.monitor.check()

    def find_memory(self, model: BaseModel) -> Memory:
        """The memory of a model that this hook maintains."""
        for memory in memories_of(model):
            if isinstance(memory, self.memory_types):
                return memory
        types = ' or '.join(one.__name__ for one in self.memory_types)
        raise TypeError(
            f'{type(self).__name__} needs a model with a {types}, {type(model).__name__} has '
            f'none. Use it with {self.models}.'
        )

    def _image_order(self, runner: Runner) -> str:
        if self._order is None:
            self._order = image_order(runner.train_dataloader.dataset)
        return self._order

    def _log_similarity(self, runner: Runner, similarity: float | None) -> None:
        if similarity is None:
            return
        log_metrics(runner, 'features', dict(similarity=similarity))
        if similarity > MAX_SIMILARITY:
            runner.logger.warning(
                f'features: the features of different images are almost alike (mean cosine '
                f'similarity {similarity:.2f}, 1 if all are equal). If this lasts for more than a '
                f'few epochs, training has collapsed. Try, in this order: '
                f'{self.collapse_advice(unwrap(runner.model))}.'
            )
