from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.runner import loops
from torch.utils.data import DataLoader

from ..compat.host import LOOPS


@LOOPS.register_module()
class EpochBasedTrainLoop(loops.EpochBasedTrainLoop):
    """MMEngine's ``EpochBasedTrainLoop``, which can also resume within an epoch.

    Registered under the name of MMEngine's loop, which it replaces in all configs of the scope
    ``mmselfsup``. MMEngine restarts the epoch of a checkpoint that was saved within it, so that the
    first images of the epoch are seen twice. Here ``CheckpointHook`` sets :attr:`first_batch`, and
    the epoch continues with the images not yet seen.

    Attributes:
        first_batch (int): Batches of the current epoch that a resumed run skips, without loading
            them; 0 in an epoch that was not resumed.
    """

    first_batch = 0

    def run_epoch(self) -> None:
        """Train for one epoch, or for the rest of it."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        with skipped_batches(self.dataloader, self.first_batch):
            for index, batch in enumerate(self.dataloader, self.first_batch):
                self.run_iter(index, batch)
        self.first_batch = 0
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


@contextmanager
def skipped_batches(loader: DataLoader, count: int) -> Iterator[None]:
    """Let a loader start with the batch of an index; its length does not change.

    Its batch sampler must read its attribute ``sampler``, as that of PyTorch does.
    """
    batches = loader.batch_sampler
    sampler = batches.sampler
    if count:
        batches.sampler = list(sampler)[count * batches.batch_size :]
    try:
        yield
    finally:
        batches.sampler = sampler
