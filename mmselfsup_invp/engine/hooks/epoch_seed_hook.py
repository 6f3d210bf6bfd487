from collections.abc import Iterator

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...compat.host import HOOKS
from ...datasets.transforms.views import seed_everything
from .common import Batch, innermost_dataset


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seeds every epoch from the seed of the run and the number of the epoch.

    A run resumed at the end of an epoch then equals an uninterrupted run, and neither the views of
    an image nor the draws of the model depend on the number of workers. MMEngine restores neither
    the random state of the process nor that of the workers.

    Example:
        >>> default_hooks = dict(epoch_seed=dict(type='EpochSeedHook'))
    """

    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed the process and the views."""
        seed_process(runner.seed, runner.epoch)
        seed_views(runner.train_dataloader.dataset, runner.seed, runner.epoch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Batch = None) -> None:
        """Seed the process again, because loading a batch may draw from its random state."""
        seed_process(runner.seed, runner.epoch, batch_idx + 1)


def seed_process(*parts: int) -> None:
    """Seed this process from the numbers and its rank."""
    seed_everything(*parts, get_rank())
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(torch.initial_seed())


def seed_views(dataset: object, seed: int, epoch: int) -> None:
    """Call ``set_epoch(seed, epoch)`` of the transforms of a data set that have this method."""
    for transform in transforms_of(dataset):
        if hasattr(transform, 'set_epoch'):
            transform.set_epoch(seed, epoch)


def transforms_of(dataset: object) -> Iterator[object]:
    """All transforms of a data set's pipeline, including those inside other transforms."""
    pipeline = getattr(innermost_dataset(dataset), 'pipeline', None)
    pending = list(getattr(pipeline, 'transforms', []))
    while pending:
        transform = pending.pop()
        yield transform
        inner = getattr(transform, 'transforms', [])
        pending.extend(inner if isinstance(inner, (list, tuple)) else [inner])
