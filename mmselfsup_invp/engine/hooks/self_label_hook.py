import copy
import time
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from mmengine import dist
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

from ...compat.host import HOOKS
from ...evaluation import extract_features
from ...models.memories import SelfLabelMemory
from ...ops import sinkhorn_labels
from ...ops.self_label import SPACINGS, SpacingName, relabel_iterations, relabel_times
from ...ops.sinkhorn import Criterion, SinkhornInfo
from ...options import MAX_INT, Choice, PositiveFloat, PositiveFraction, PositiveInt, Range, checked
from .common import Batch, build_loader, log_metrics, preserved_random_state, unwrap
from .epoch_seed_hook import seed_process, seed_views
from .memory_hook import MemoryHook
from .self_labelling import HEADS, STORAGE, label_metrics, mean_agreement

# Labelling events are seeded like epochs, with numbers from here on, which no epoch reaches.
FIRST_EVENT_EPOCH = 2**31


@HOOKS.register_module()
@checked
class SelfLabelHook(MemoryHook):
    """Assigns new labels to all images of SeLa at scheduled iterations.

    At every event of the schedule all images pass through the network; the main process solves
    for the labels of each head and broadcasts them. The schedule depends on the iteration alone,
    so a resumed run has the events of an uninterrupted one, and an event leaves the random states
    unchanged. See :class:`MemoryHook` for what happens in every iteration and epoch.

    Logged after every event under ``sela/``, at the number of iterations before it: the metrics of
    :func:`~.self_labelling.label_metrics` over the heads that were solved and, if the data set has
    labels, ``nmi``, ``ari`` and ``accuracy`` of
    :func:`~mmselfsup_invp.evaluation.cluster_agreement`, averaged over those heads.

    Args:
        num_events (int): Events of the schedule, at least 2. Defaults to 100 (ImageNet; 400 on
            CIFAR).
        spacing (str): ``'power'``, dense at the start (ImageNet), or ``'linear'`` (CIFAR), see
            :func:`~mmselfsup_invp.ops.relabel_times`. Defaults to ``'power'``.
        schedule_epochs (float, optional): E of the schedule. Defaults to None: the value with
            which the official code trains ``max_epochs`` epochs, which is ``max_epochs - 1`` with
            ``'power'``, because its loop adds one, and ``max_epochs`` with ``'linear'``.
        heads (str): ``'all'``: every event labels the images for all heads (ImageNet);
            ``'rotate'``: for head ``epoch mod H`` only (CIFAR). Defaults to ``'all'``.
        relabel_mode (str): ``'train'``: the network is in training mode, with batch statistics,
            which also update the running ones, and with dropout (the official code); ``'eval'``:
            in evaluation mode, with the running statistics of the main process.
            Defaults to ``'train'``.
        relabel_dataloader (dict, optional): Config of the loader of the training images for the
            events. Defaults to None: the training loader's, with its augmentation (the official
            code). Required with ``'eval'``.
        lambd, tol, max_iter, criterion, balanced: See :func:`~mmselfsup_invp.ops.sinkhorn_labels`.
        storage (str): What is stored during an event: ``'log_prob'``: the features, N x D, and
            the log-probabilities of a head, N x K, on the device of the main process;
            ``'features'``: the features only; each pass recomputes the log-probabilities in
            blocks; ``'host'``: the features in host memory, copied to the device block by block
            in each pass. Defaults to ``'log_prob'``.
        check_interval (int): Iterations between two checks for NaN and Inf, see
            :class:`MemoryHook`. Defaults to 50.

    Raises:
        ValueError: If an option is outside its valid values, or the loader is missing.

    Example:
        >>> default_hooks = dict(self_label=dict(type='SelfLabelHook', num_events=100))
    """

    memory_types = (SelfLabelMemory,)
    models = 'SeLa'

    def __init__(
        self,
        num_events: Annotated[int, Range(2, MAX_INT)] = 100,
        spacing: SpacingName = 'power',
        schedule_epochs: PositiveFloat | None = None,
        heads: Annotated[str, Choice(HEADS)] = 'all',
        relabel_mode: Literal['train', 'eval'] = 'train',
        relabel_dataloader: dict | None = None,
        lambd: PositiveFloat = 25.0,
        tol: PositiveFraction = 1e-2,
        max_iter: PositiveInt = 1000,
        criterion: Criterion = 'relative',
        balanced: bool = False,
        storage: Annotated[str, Choice(STORAGE)] = 'log_prob',
        check_interval: PositiveInt = 50,
    ) -> None:
        super().__init__(check_interval)
        if relabel_mode == 'eval' and relabel_dataloader is None:
            raise ValueError(
                "relabel_mode='eval' needs relabel_dataloader: the training images with a "
                'pipeline without randomness.'
            )
        self.num_events = num_events
        self.spacing = spacing
        self.schedule_epochs = schedule_epochs
        self.heads = heads
        self.relabel_mode = relabel_mode
        self.relabel_dataloader = relabel_dataloader
        self.storage = storage
        self.log_prob, self.feature_device = STORAGE[storage]
        self.solver = dict(
            lambd=lambd, tol=tol, max_iter=max_iter, criterion=criterion, balanced=balanced
        )

    def collapse_advice(self, model: BaseModel) -> str:
        """Return the options to change if the features collapse."""
        return (
            'a lower learning rate (optim_wrapper.optimizer.lr), more labelling events '
            '(num_events in SelfLabelHook), fewer classes (num_classes in model.head and '
            'model.memory)'
        )

    def before_run(self, runner: Runner) -> None:
        """Fit the memory, build the loader and compute the schedule."""
        super().before_run(runner)
        self.relabel_dataloader = self._build_loader(runner)
        self._events = self.schedule(runner)

    def schedule(self, runner: Runner) -> dict[int, int]:
        """Return the number of each event, from 0, by the iteration before which it happens."""
        epochs = self.schedule_epochs
        if epochs is None:
            epochs = runner.max_epochs - SPACINGS[self.spacing].extra_epochs
        times = relabel_times(self.num_images, epochs, self.num_events, self.spacing)
        batch_size = runner.train_dataloader.batch_sampler.batch_size * dist.get_world_size()
        iterations = relabel_iterations(times, batch_size)
        return {iteration: event for event, iteration in enumerate(iterations)}

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Batch = None) -> None:
        """Relabel the images if an event is due."""
        super().before_train_iter(runner, batch_idx, data_batch)
        if runner.iter in self._events:
            self.check_finite()
            with preserved_random_state():
                self.relabel(runner, self._events[runner.iter])

    @torch.no_grad()
    def relabel(self, runner: Runner, event: int) -> None:
        """Label all images with the current network and log the metrics."""
        head = unwrap(runner.model).head
        start = time.perf_counter()
        feature = self.extract(runner, event)
        extracted = time.perf_counter()
        before = self.memory.labels.clone()
        heads = list(HEADS[self.heads](runner.epoch, head.num_heads))
        infos = [self._solve(runner, feature, head) for head in heads]
        solved = time.perf_counter()
        if not dist.is_main_process():
            return
        runner.logger.info(
            f'Relabelled {self.num_images} images: {extracted - start:.1f} s for the features, '
            f'{solved - extracted:.1f} s for the labels.'
        )
        labels = self.memory.labels[:, heads]
        metrics = label_metrics(labels, before[:, heads], infos)
        if self.true_labels is not None:
            metrics |= mean_agreement(labels, self.true_labels)
        log_metrics(runner, 'sela', metrics, iteration=runner.iter)
        self._warn_of_tolerance(runner, infos)
        self.warn_of_few_labels(runner, 'sela', metrics['entropy'])

    def extract(self, runner: Runner, event: int) -> Tensor | None:
        """Features ``(N, D)`` of all images on the main process, None on the others."""
        loader = self.relabel_dataloader
        # The views and the order of an event differ from those of every epoch.
        epoch = FIRST_EVENT_EPOCH + event
        seed_views(loader.dataset, runner.seed, epoch)
        if hasattr(loader.sampler, 'set_epoch'):
            loader.sampler.set_epoch(epoch)
        seed_process(runner.seed, epoch)
        return extract_features(
            runner.model,
            loader,
            lambda model, inputs: model.embed(inputs[0]),
            training=self.relabel_mode == 'train',
            main_only=True,
            device=self.feature_device,
            # How often loading draws from the random state depends on the number of workers.
            before_batch=lambda number: seed_process(runner.seed, epoch, number + 1),
        )

    def _solve(self, runner: Runner, feature: Tensor | None, head: int) -> SinkhornInfo | None:
        """Assign new labels to a head, the same on all processes."""
        label = torch.empty_like(self.memory.labels[:, head])
        info = None
        if feature is not None:
            log_prob = self.log_prob(unwrap(runner.model), feature, head)
            solution, info = sinkhorn_labels(log_prob, **self.solver)
            label.copy_(solution)
        dist.broadcast(label)
        self.memory.relabel(head, label)
        return info

    def _build_loader(self, runner: Runner) -> DataLoader:
        """The loader of the events, by default a copy of the training loader, which is in use."""
        loader = self.relabel_dataloader
        if loader is None:
            loader = copy.deepcopy(runner.cfg.get('train_dataloader'))
            if not isinstance(loader, dict):
                raise ValueError(
                    'The runner was not given the training loader as a config. Set '
                    'relabel_dataloader of SelfLabelHook.'
                )
            loader.update(drop_last=False, persistent_workers=False)
        return build_loader(runner, loader)

    def _warn_of_tolerance(self, runner: Runner, infos: Sequence[SinkhornInfo]) -> None:
        failed = [info for info in infos if not info.converged]
        if failed:
            runner.logger.warning(
                f'sela: {len(failed)} of {len(infos)} heads did not converge to '
                f'tol = {self.solver["tol"]} within {failed[0].iterations} passes (error '
                f'{max(info.error for info in failed):.3g}). Raise max_iter or tol, or lower '
                'lambd.'
            )
