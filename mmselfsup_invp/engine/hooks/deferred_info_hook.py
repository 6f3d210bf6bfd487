import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner
from mmselfsup.registry import HOOKS
from torch import Tensor


@HOOKS.register_module()
class DeferredInfoHook(RuntimeInfoHook):
    """Read the losses of the last iterations when they are logged, all in one go.

    MMEngine's ``RuntimeInfoHook``, in whose place this stands (``default_hooks.runtime_info``),
    reads every value of every iteration, and each time the device waits until it is known. What
    is logged, and what a checkpoint keeps of it, is the same.
    """

    def before_train(self, runner: Runner) -> None:
        """Find out when somebody logs."""
        super().before_train(runner)
        self._unread: list[dict[str, Tensor | float]] = []
        self._loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Keep the values, and read all that were kept where the loggers need them."""
        if outputs:
            self._unread.append({key: _detached(value) for key, value in outputs.items()})
        due = any(self.every_n_inner_iters(batch_idx, one.interval) for one in self._loggers)
        if due or self.end_of_epoch(runner.train_dataloader, batch_idx):
            self._read(runner)

    def _read(self, runner: Runner) -> None:
        waiting = [one for values in self._unread for one in values.values()]
        tensors = [one for one in waiting if isinstance(one, Tensor)]
        # One transfer, of numbers that float64 holds as they are.
        known = iter(torch.stack([one.double() for one in tensors]).tolist() if tensors else [])
        for values in self._unread:
            for key, value in values.items():
                number = next(known) if isinstance(value, Tensor) else value
                runner.message_hub.update_scalar(f'train/{key}', number)
        self._unread.clear()


def _detached(value: Tensor | float) -> Tensor | float:
    """A copy of a number on the device, which keeps no graph alive and no later write changes."""
    return value.detach().reshape(()).clone() if isinstance(value, Tensor) else value
