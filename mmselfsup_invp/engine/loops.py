from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.runner import loops
from torch import nn
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

    def run(self) -> nn.Module:
        """Train until the last epoch.

        Raises:
            ValueError: If an epoch has no batch.
        """
        if not len(self.dataloader):
            raise ValueError(
                no_batch(len(self.dataloader.dataset), self.dataloader.batch_sampler.batch_size)
            )
        return super().run()

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


def no_batch(num_images: int, batch_size: int) -> str:
    """The message for a loader that drops its only batch."""
    return (
        f'The data set of {num_images} images gives no batch of {batch_size}: lower '
        'train_dataloader.batch_size, or set train_dataloader.drop_last=False.'
    )


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
