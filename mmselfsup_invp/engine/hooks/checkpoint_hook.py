import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from mmengine import hooks
from mmengine.dist import broadcast_object_list, get_world_size, is_main_process
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.runner import Runner
from torch import nn

from ...checkpoint_files import choice_of_checkpoint, newest_intact, recorded_name
from ...compat.host import HOOKS
from ...datasets.files import listed
from ...memory import whole_state
from ..atomic_backend import AtomicLocalBackend
from ..loops import EpochBasedTrainLoop
from ..resume_checks import require_resumable
from ..resume_options import follow_config
from .common import Batch, unwrap

# Key in a checkpoint's 'meta': images of the current epoch that were seen, of all processes.
SAMPLES = 'epoch_samples'


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
    - ``resume=True`` takes the newest checkpoint that is intact, and logs which damaged ones it
      passed over (:func:`~mmselfsup_invp.checkpoint_files.newest_intact`).
    - With ``by_epoch=False`` a run resumes within the epoch, with the images not yet seen
      (:class:`~mmselfsup_invp.engine.loops.EpochBasedTrainLoop`).
    - A model with NaN or +Inf is not saved: the run stops and the last good checkpoint remains.
    - Options of the optimiser and schedules that were changed in the config take effect in a
      resumed run (:func:`~mmselfsup_invp.engine.resume_options.follow_config`).

    Other storage than local files is written as by MMEngine, after which older files are deleted.

    Args:
        **kwargs: Those of ``mmengine.hooks.CheckpointHook``.

    Example:
        >>> default_hooks = dict(checkpoint=dict(type='CheckpointHook', max_keep_ckpts=1))
    """

    def before_run(self, runner: Runner) -> None:
        """With ``resume=True`` and no ``load_from``, choose the newest intact checkpoint."""
        if not runner._resume or runner._load_from:
            return
        folder = Path(runner.work_dir)
        if '://' in recorded_name(folder):  # In other storage, from which MMEngine resumes.
            return
        # The main process decides for all.
        found = [newest_intact(folder) if is_main_process() else None]
        broadcast_object_list(found)
        checkpoint, damaged = found[0]
        runner._resume, runner._load_from = checkpoint is not None, checkpoint and str(checkpoint)
        log = runner.logger.warning if damaged else runner.logger.info
        log(choice_of_checkpoint(folder, checkpoint, damaged))

    def before_train(self, runner: Runner) -> None:
        """Choose the atomic backend for local files."""
        out_dir = str(self.out_dir or runner.work_dir)
        chosen = self.backend_args is not None or self.file_client_args is not None
        if not chosen and isinstance(get_file_backend(out_dir), LocalBackend):
            self.backend_args = dict(backend='atomic')
        super().before_train(runner)
        self._forget_foreign_best()
        self._check_interval(runner)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Resume within an epoch, and with optimiser and schedule of the config."""
        if not runner._resume:
            return
        require_resumable(runner, checkpoint)
        meta, length = checkpoint['meta'], len(runner.train_dataloader)
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            runner.train_loop.first_batch = meta.get(SAMPLES, 0) // total_batch_size(runner)
            # The iterations of this run: the batches may have another size than before.
            meta['iter'] = meta['epoch'] * length + runner.train_loop.first_batch
        changed = follow_config(checkpoint, runner, length)
        if changed:
            runner.logger.warning(f'{" ".join(changed)} The run continues with the config.')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Batch = None, outputs: Batch = None
    ) -> None:
        """With ``by_epoch=False``, save a checkpoint at the interval."""
        self._batches = batch_idx + 1
        super().after_train_iter(runner, batch_idx, data_batch, outputs)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Save a checkpoint without NaN and Inf, then delete those that are no longer kept."""
        latest = self.last_ckpt or runner.message_hub.runtime_info.get('last_ckpt')
        require_finite(unwrap(runner.model), runner.iter, latest)
        if isinstance(runner.train_loop, EpochBasedTrainLoop) and not self.by_epoch:
            meta[SAMPLES] = self._batches * total_batch_size(runner)
        removed = self._keep(runner, step)
        filename = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, filename)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        with whole_state(runner.model):
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

    def _forget_foreign_best(self) -> None:
        """Keep the best checkpoint, which will be deleted, only if it is in this folder."""
        here = Path(self.out_dir).resolve()
        several = getattr(self, 'best_ckpt_path_dict', {})
        for paths, names in ((vars(self), ['best_ckpt_path']), (several, list(several))):
            for name in names:
                if paths.get(name) and Path(paths[name]).resolve().parent != here:
                    paths[name] = None

    def _check_interval(self, runner: Runner) -> None:
        """Gradients that are not yet applied are not in a checkpoint."""
        count = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        if not self.by_epoch and self.interval % count:
            raise ValueError(
                f'CheckpointHook has interval = {self.interval} iterations, which is no multiple '
                f'of optim_wrapper.accumulative_counts = {count}. Set one, so that no checkpoint '
                'falls between the backward passes of a step.'
            )

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
        deferred = self.file_backend.deferred_removals() if atomic else nullcontext()
        with deferred, whole_state(runner.model):
            super()._save_best_checkpoint(runner, metrics)


def total_batch_size(runner: Runner) -> int:
    """Images of an iteration on all processes."""
    return runner.train_dataloader.batch_sampler.batch_size * get_world_size()


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
