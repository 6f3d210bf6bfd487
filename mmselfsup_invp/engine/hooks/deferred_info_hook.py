import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner
from torch import Tensor

from ...compat.host import HOOKS
from .common import Batch


@HOOKS.register_module()
class DeferredInfoHook(RuntimeInfoHook):
    """Transfers the losses to the host only when they are logged.

    Replaces MMEngine's ``RuntimeInfoHook`` (``default_hooks.runtime_info``), which reads every
    loss in every iteration and synchronises with the device each time. The log and the history in
    checkpoints are the same.

    Example:
        >>> default_hooks = dict(runtime_info=dict(type='DeferredInfoHook'))
    """

    def before_train(self, runner: Runner) -> None:
        """Collect the logger hooks."""
        super().before_train(runner)
        self._pending: list[dict[str, Tensor | float]] = []
        self._loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Batch = None, outputs: Batch = None
    ) -> None:
        """Store the losses; transfer all that are stored when a logger needs them."""
        if outputs:
            self._pending.append({key: _detached(value) for key, value in outputs.items()})
        due = any(self.every_n_inner_iters(batch_idx, one.interval) for one in self._loggers)
        if due or self.end_of_epoch(runner.train_dataloader, batch_idx):
            self._transfer(runner)

    def _transfer(self, runner: Runner) -> None:
        values = [one for losses in self._pending for one in losses.values()]
        tensors = [one for one in values if isinstance(one, Tensor)]
        # One transfer for all; float64 represents every loss exactly.
        numbers = iter(torch.stack([one.double() for one in tensors]).tolist() if tensors else [])
        for losses in self._pending:
            for key, value in losses.items():
                number = next(numbers) if isinstance(value, Tensor) else value
                runner.message_hub.update_scalar(f'train/{key}', number)
        self._pending.clear()


def _detached(value: Tensor | float) -> Tensor | float:
    """Copy a scalar tensor without its graph, so that later in-place changes do not reach it."""
    return value.detach().reshape(()).clone() if isinstance(value, Tensor) else value
