from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...compat.host import HOOKS
from ...datasets import num_images
from ...datasets.files import listed, printable
from ...models.memories import memories_of
from ...options import PositiveFraction, checked
from ..chance import chance_levels
from ..memory_estimate import MemoryEstimate, available_memory, estimate_memory, size
from ..resume_options import schedulers_of
from .common import innermost_dataset, unwrap
from .memory_hook import MemoryHook
from .self_label_hook import SelfLabelHook


@HOOKS.register_module()
@checked
class RunHealthHook(Hook):
    """Checks the memory at the start, and warns of a plateau and of skipped images.

    Before the memories are allocated, the estimate of
    :func:`~mmselfsup_invp.engine.memory_estimate.estimate_memory` is logged; a run that cannot fit
    is refused.

    At the end of an epoch, a warning follows if images could not be read, and if the loss is still
    at its chance level. The loss of the first epoch is not judged, because the bank then holds
    initial rows; later a warning follows at most once in every tenth of the run. A collapse of the
    features is reported by the hooks of the memories.

    Args:
        plateau (float): Loss relative to its chance level above which a warning follows. Defaults
            to 0.97. On 1,000 photographs an InvP that did not learn ended at 0.99.

    Attributes:
        estimate (MemoryEstimate): Set by ``before_run``.

    Raises:
        ValueError: If the memory does not suffice.

    Example:
        >>> default_hooks = dict(health=dict(type='RunHealthHook'))
    """

    priority = 'ABOVE_NORMAL'  # Before the hooks that allocate the memories.

    def __init__(self, plateau: PositiveFraction = 0.97) -> None:
        self.plateau = plateau
        self.estimate: MemoryEstimate
        self._judged = 0
        self._num_skipped = 0

    def before_run(self, runner: Runner) -> None:
        """Estimate the memory and refuse a run that cannot fit."""
        loader = runner.train_dataloader
        self.estimate, available = memory_of(runner, loader.batch_sampler.batch_size)
        runner.logger.info(f'Memory: {self.estimate} and activations; {size(available)} free.')
        self.estimate.without('network').require(available)  # The network is on the device already.

    def before_train(self, runner: Runner) -> None:
        """Judge a resumed run from its next tenth on; warn of a schedule that ends early."""
        self._judged = _tenth(runner, runner.epoch)
        last = last_scheduled_epoch(runner)
        if last is not None and last < runner.max_epochs:
            runner.logger.warning(
                f'The schedule of the learning rate ends with epoch {last} of {runner.max_epochs}; '
                'the epochs after it keep its last value. Set end, and T_max of a cosine, in '
                'param_scheduler to the number of epochs.'
            )

    def after_train_epoch(self, runner: Runner) -> None:
        """Judge the epoch."""
        self._report_skipped(runner)
        tenth = _tenth(runner, runner.epoch + 1)
        if runner.epoch == 0 or tenth == self._judged:
            return
        self._judged = tenth
        for name, level in chance_of(runner).items():
            history = runner.message_hub.get_scalar(f'train/{name}')
            loss = history.mean(len(runner.train_dataloader))
            if loss > self.plateau * level:
                runner.logger.warning(
                    f'{name} is {loss:.2f} in epoch {runner.epoch + 1}, its chance level '
                    f'{level:.2f}: the network does not distinguish the images yet.'
                    f'{_advice(runner)}'
                )

    def _report_skipped(self, runner: Runner) -> None:
        dataset = innermost_dataset(runner.train_dataloader.dataset)
        skipped = getattr(dataset, 'skipped', None)
        rows = [] if skipped is None else skipped.nonzero().flatten().tolist()
        if len(rows) == self._num_skipped:
            return
        self._num_skipped = len(rows)
        names = [printable(dataset.get_data_info(row)['img_path']) for row in rows]
        runner.logger.warning(
            f'{len(rows):,} of {len(dataset):,} images cannot be read and were skipped: '
            f'{listed(names, 10)}'
        )


def memory_of(runner: Runner, batch_size: int) -> tuple[MemoryEstimate, int]:
    """Memory that a run needs with batches of this size, and bytes that are free."""
    model, dataset = unwrap(runner.model), runner.train_dataloader.dataset
    # Networks that are evaluated have no memories, and data sets without rows in one.
    num = num_images(dataset) if memories_of(model) else len(dataset)
    labelling = (hook.storage for hook in runner.hooks if isinstance(hook, SelfLabelHook))
    storage = next(labelling, 'host')
    estimate = estimate_memory(model, num, batch_size, storage)
    return estimate, available_memory(next(model.parameters()).device)


def last_scheduled_epoch(runner: Runner) -> int | None:
    """Last epoch in which a schedule changes the learning rate; None without a schedule."""
    length = max(len(runner.train_dataloader), 1)
    ends = [
        one.end if one.by_epoch else -(-one.end // length)
        for one in schedulers_of(runner)
        if one.param_name == 'lr'
    ]
    return max(ends, default=None)


def chance_of(runner: Runner) -> dict[str, float]:
    """Chance levels of a run's losses, see :func:`~mmselfsup_invp.engine.chance.chance_levels`."""
    model = unwrap(runner.model)
    memory = getattr(model, 'memory', None)
    return chance_levels(getattr(model, 'head', None), 0 if memory is None else len(memory))


def _tenth(runner: Runner, epochs: int) -> int:
    return 10 * epochs // runner.max_epochs


def _advice(runner: Runner) -> str:
    for hook in runner.hooks:
        if isinstance(hook, MemoryHook):
            advice = hook.collapse_advice(unwrap(runner.model))
            return f' If it stays there, try, in this order: {advice}.'
    return ''
