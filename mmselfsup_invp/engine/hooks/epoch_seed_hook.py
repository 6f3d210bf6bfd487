from collections.abc import Iterator

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmselfsup.registry import HOOKS

from ...datasets.transforms.views import seed_everything


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Make all that is random in an epoch depend on the run's seed and the epoch alone.

    A run resumed from the end of an epoch then equals the run that was never interrupted, and
    neither the views of an image nor what the model draws depends on the number of workers.
    MMEngine by itself restores neither the random state nor the workers'.
    """

    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed the process and the views."""
        seed_process(runner.seed, runner.epoch)
        for transform in transforms_of(runner.train_dataloader.dataset):
            if hasattr(transform, 'set_epoch'):
                transform.set_epoch(runner.seed, runner.epoch)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Seed the process again: loading draws from its state, how often depends on workers."""
        seed_process(runner.seed, runner.epoch, batch_idx + 1)


def seed_process(*parts: int) -> None:
    """Seed this process, each rank its own way."""
    seed_everything(*parts, get_rank())
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(torch.initial_seed())


def transforms_of(dataset: object) -> Iterator[object]:
    """All transforms of a data set's pipeline, those inside wrappers too."""
    while hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    pending = list(getattr(getattr(dataset, 'pipeline', None), 'transforms', []))
    while pending:
        transform = pending.pop()
        yield transform
        inner = getattr(transform, 'transforms', [])
        pending.extend(inner if isinstance(inner, (list, tuple)) else [inner])
