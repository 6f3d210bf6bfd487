import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from mmengine import hooks
from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.runner import Runner
from torch import nn

from ...compat.host import HOOKS
from ...evaluation.checkpoints import listed
from ..atomic_backend import AtomicLocalBackend
from ..learning_rate import rescale_learning_rate
from .common import unwrap


class NonFiniteWeights(ValueError):
    """Weights or buffers of the model are NaN or Inf."""


@HOOKS.register_module()
class CheckpointHook(hooks.CheckpointHook):
    """MMEngine's ``CheckpointHook`` with checkpoints that survive a crash.

    Registered under the name of MMEngine's hook, which it replaces in all configs of the scope
    ``mmselfsup``. The options are the same; the differences:

    - A checkpoint, and ``last_checkpoint``, is written under a temporary name, synchronised and
      renamed (:class:`~mmselfsup_invp.engine.atomic_backend.AtomicLocalBackend`). Only then is an
      older one deleted. MMEngine (0.10.7) deletes first, so that a run with ``max_keep_ckpts=1``
      that is killed while it writes loses all its checkpoints. The disk must have space for one
      more checkpoint than are kept.
    - A model with NaN or +Inf is not saved: the run stops and the last good checkpoint remains.
    - A learning rate that was changed in the config takes effect in a resumed run
      (:func:`~mmselfsup_invp.engine.learning_rate.rescale_learning_rate`).

    Other storage than local files is written as by MMEngine, after which older files are deleted.

    Args:
        **kwargs: Those of ``mmengine.hooks.CheckpointHook``.

    Example:
        >>> default_hooks = dict(checkpoint=dict(type='CheckpointHook', max_keep_ckpts=1))
    """

    def before_train(self, runner: Runner) -> None:
        """Choose the atomic backend for local files."""
        out_dir = str(self.out_dir or runner.work_dir)
        chosen = self.backend_args is not None or self.file_client_args is not None
        if not chosen and isinstance(get_file_backend(out_dir), LocalBackend):
            self.backend_args = dict(backend='atomic')
        super().before_train(runner)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Let a learning rate that was changed in the config take effect in a resumed run."""
        if not runner._resume:
            return
        changed = rescale_learning_rate(checkpoint, runner.optim_wrapper)
        if changed is not None:
            saved, current = changed
            runner.logger.warning(
                f'The initial learning rate is {current:g} in the config and {saved:g} in the '
                'checkpoint. The run continues its schedule with that of the config.'
            )

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Save a checkpoint, then delete those that are no longer kept.

        Raises:
            NonFiniteWeights: If the model holds NaN or Inf; nothing is written.
        """
        latest = self.last_ckpt or runner.message_hub.runtime_info.get('last_ckpt')
        require_finite(unwrap(runner.model), runner.iter, latest)
        removed = self._keep(runner, step)
        filename = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, filename)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            filename,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            record = Path(runner.work_dir, 'last_checkpoint')
            AtomicLocalBackend().put_text(self.last_ckpt, record)
            for old in removed:
                path = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(old))
                if self.file_backend.isfile(path):
                    self.file_backend.remove(path)

    def _keep(self, runner: Runner, step: int) -> list[int]:
        """Add a step to those that are kept; return those to delete after it was saved.

        The list in the checkpoint still contains the latter: a run that is killed before they are
        deleted deletes them when it is resumed (``before_train`` of MMEngine).
        """
        if self.max_keep_ckpts <= 0:
            return []
        steps = [*(one for one in self.keep_ckpt_ids if one != step), step]
        runner.message_hub.update_info('keep_ckpt_ids', steps)
        removed = steps[: -self.max_keep_ckpts]
        self.keep_ckpt_ids.clear()
        self.keep_ckpt_ids.extend(steps[len(removed) :])
        return removed

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """Save the best checkpoint, then delete the previous one."""
        atomic = isinstance(self.file_backend, AtomicLocalBackend)
        with self.file_backend.deferred_removals() if atomic else nullcontext():
            super()._save_best_checkpoint(runner, metrics)


def require_finite(model: nn.Module, iteration: int, last_checkpoint: str | None) -> None:
    """Raise :class:`NonFiniteWeights` if a weight or a buffer of a model is NaN or +Inf."""
    # -Inf is not an error: attention masks contain it.
    names = [
        name
        for name, value in model.state_dict().items()
        if value.is_floating_point() and not bool((value < math.inf).all())
    ]
    if names:
        latest = f' The last good one is {last_checkpoint}.' if last_checkpoint else ''
        raise NonFiniteWeights(
            f'The model holds NaN or Inf after {iteration} iterations ({listed(names)}): no '
            f'checkpoint was written.{latest} Resume with a lower learning rate '
            '(optim_wrapper.optimizer.lr) or with gradient clipping (optim_wrapper.clip_grad).'
        )
