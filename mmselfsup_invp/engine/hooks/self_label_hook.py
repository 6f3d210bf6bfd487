import copy
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from mmengine import dist
from mmengine.runner import Runner
from mmselfsup.registry import HOOKS
from torch import Tensor
from torch.utils.data import DataLoader

from ...datasets import image_labels, num_images
from ...evaluation import cluster_agreement, collect_features
from ...models.algorithms import SeLa
from ...ops import SinkhornInfo, relabel_iterations, relabel_times, sinkhorn_labels
from ...ops.checks import require_choice, require_range
from ...ops.clustering import cluster_health
from ...ops.search import default_elements
from ...ops.self_label import SPACINGS
from ...ops.sinkhorn import CRITERIA, LogProb
from .common import check_ids, log_figures, require_epochs, undisturbed_random, unwrap
from .epoch_seed_hook import seed_process, transforms_of
from .memory_hook import MemoryHook


def all_heads(epoch: int, num_heads: int) -> Iterable[int]:
    """Every head at every event (``main.py`` of the official code)."""
    return range(num_heads)


def next_head(epoch: int, num_heads: int) -> Iterable[int]:
    """One head, that of the epoch (``cifar.py``)."""
    return [epoch % num_heads]


HEADS = {'all': all_heads, 'rotate': next_head}


def stored_log_prob(model: SeLa, feature: Tensor, head: int) -> LogProb:
    """Log-probabilities of all images, ``(N, K)``, computed once."""
    blocks = streamed_log_prob(model, feature, head)
    whole = feature.new_empty((len(feature), model.head.num_classes), dtype=torch.float32)
    start = 0
    for block in blocks():
        whole[start : start + len(block)] = block
        start += len(block)
    return whole


def streamed_log_prob(model: SeLa, feature: Tensor, head: int) -> LogProb:
    """Log-probabilities of all images, computed anew, block by block, whenever they are read."""
    device = next(model.parameters()).device
    rows = max(default_elements(device) // model.head.num_classes, 1)

    def blocks() -> Iterator[Tensor]:
        return (model.head.log_prob(part.to(device), head) for part in feature.split(rows))

    return blocks


# Events count as epochs from here on where something is seeded.
FIRST_EPOCH = 2**31

# What is held during an event, and where the features are ('' for the model's device).
STORAGE: dict[str, tuple[Callable[[SeLa, Tensor, int], LogProb], str]] = {
    'log_prob': (stored_log_prob, ''),
    'features': (streamed_log_prob, ''),
    'host': (streamed_log_prob, 'cpu'),
}


@HOOKS.register_module()
class SelfLabelHook(MemoryHook):
    """When the images get new labels.

    Before the run the memory is sized from the data set. At every event of the schedule all
    images go through the network, and the labels of the heads are solved for on the main process
    and sent to the others. Which iterations these are follows from their number alone, so that a
    resumed run goes on with the events of the uninterrupted one; the random states are as if
    nothing had happened.

    Logged after every event under ``sela/``, with the iterations before it as the step, over the
    heads that were solved: ``change_ratio``, the share of the labels that changed; the figures of
    :func:`~mmselfsup_invp.ops.cluster_health` (fewest and most images of any head, means of the
    rest); ``passes``, ``error`` (the worst head's) and ``cost`` of
    :class:`~mmselfsup_invp.ops.SinkhornInfo`; and, where the data set has labels, ``nmi``, ``ari``
    and ``accuracy`` of :func:`~mmselfsup_invp.evaluation.cluster_agreement`, means over the heads.

    Args:
        num_events (int): Events of the schedule, at least 2. Defaults to 100 (ImageNet; 400 on
            CIFAR).
        spacing (str): ``'power'``, dense at the start (ImageNet), or ``'linear'`` (CIFAR), see
            :func:`~mmselfsup_invp.ops.relabel_times`. Defaults to ``'power'``.
        schedule_epochs (float, optional): E of the schedule. Defaults to None: that with which
            the official code trains ``max_epochs`` epochs, one less with ``'power'``, for its
            loop adds one, and ``max_epochs`` with ``'linear'``.
        heads (str): ``'all'``: every event labels the images for all heads (ImageNet);
            ``'rotate'``: for head ``epoch mod H`` only (CIFAR). Defaults to ``'all'``.
        relabel_mode (str): ``'train'``: the network is in training mode, with the statistics of
            the batch, which also enter the running ones, and with dropout (the official code);
            ``'eval'``: in evaluation mode, with the running ones of the main process.
            Defaults to ``'train'``.
        relabel_dataloader (dict, optional): Config of the loader of the training images for the
            events. Defaults to None: the training loader's, with its augmentation (the official
            code). Required with ``'eval'``.
        lambd (float): lambda of :func:`~mmselfsup_invp.ops.sinkhorn_labels`. Defaults to 25.
        tol (float): Its tolerance. Defaults to 1e-2.
        max_iter (int): Its passes at most. Defaults to 1000.
        criterion (str): Its measure of the error. Defaults to ``'relative'``.
        balanced (bool): Whether classes are of equal size exactly. Defaults to False.
        check_interval (int): Iterations between two looks for NaN features. A look makes the
            device wait. Defaults to 50.
        storage (str): What is held during an event: ``'log_prob'`` the features, N x D, and the
            log-probabilities of a head, N x K, on the main process's device; ``'features'`` only
            the former, each pass computes the latter anew in blocks; ``'host'`` the features in
            host memory, blocks of which visit the device in each pass. Defaults to
            ``'log_prob'``.

    Raises:
        ValueError: If an option is outside its valid values, or the loader is missing.
    """

    priority = 'NORMAL'

    def __init__(
        self,
        num_events: int = 100,
        spacing: str = 'power',
        schedule_epochs: float | None = None,
        heads: str = 'all',
        relabel_mode: str = 'train',
        relabel_dataloader: dict | None = None,
        lambd: float = 25.0,
        tol: float = 1e-2,
        max_iter: int = 1000,
        criterion: str = 'relative',
        balanced: bool = False,
        storage: str = 'log_prob',
        check_interval: int = 50,
    ) -> None:
        require_range('num_events', num_events, 2, 2**31, 'the first and the last are at the ends')
        require_choice('spacing', spacing, SPACINGS)
        require_choice('heads', heads, HEADS)
        require_choice('relabel_mode', relabel_mode, ('train', 'eval'))
        require_choice('criterion', criterion, CRITERIA)
        require_choice('storage', storage, STORAGE)
        require_range('check_interval', check_interval, 1, 2**31, 'it counts iterations')
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
        self.check_interval = check_interval
        self.solver = dict(
            lambd=lambd, tol=tol, max_iter=max_iter, criterion=criterion, balanced=balanced
        )

    def before_run(self, runner: Runner) -> None:
        """Size the memory; a checkpoint to resume from is loaded after this.

        Raises:
            TypeError: If the model is not SeLa, or the run does not count epochs.
        """
        model = unwrap(runner.model)
        if not isinstance(model, SeLa):
            raise TypeError(f'SelfLabelHook needs the model SeLa, found {type(model).__name__}.')
        require_epochs(runner, self)
        self._num_images = num_images(runner.train_dataloader.dataset)
        model.memory.fit(self._num_images)
        self._events = self.schedule(runner)

    def schedule(self, runner: Runner) -> dict[int, int]:
        """Number of the event, from 0, by the iteration before which it happens."""
        epochs = self.schedule_epochs
        if epochs is None:
            epochs = runner.max_epochs - SPACINGS[self.spacing].extra_epochs
        times = relabel_times(self._num_images, epochs, self.num_events, self.spacing)
        batch_size = runner.train_dataloader.batch_sampler.batch_size * dist.get_world_size()
        iterations = relabel_iterations(times, batch_size)
        return {iteration: event for event, iteration in enumerate(iterations)}

    def before_train(self, runner: Runner) -> None:
        """Read the true labels, to compare with."""
        self._truth = image_labels(runner.train_dataloader.dataset)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Label the images anew if that is due."""
        if data_batch is not None:
            check_ids(data_batch['data_samples'], self._num_images)
        memory = unwrap(runner.model).memory
        if runner.iter in self._events:
            memory.monitor.check()
            with undisturbed_random():
                self.relabel(runner, self._events[runner.iter])
        memory.monitor.iteration = runner.iter + 1

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Look for NaN features now and then."""
        if self.every_n_train_iters(runner, self.check_interval):
            unwrap(runner.model).memory.monitor.check()

    def after_train_epoch(self, runner: Runner) -> None:
        """Look for NaN features before a checkpoint is saved."""
        unwrap(runner.model).memory.monitor.check()

    @torch.no_grad()
    def relabel(self, runner: Runner, event: int) -> None:
        """Label all images by the network as it is, and log the figures."""
        model = unwrap(runner.model)
        start = time.perf_counter()
        feature = self._features(runner, event)
        extracted = time.perf_counter()
        before = model.memory.labels.clone()
        heads = list(HEADS[self.heads](runner.epoch, model.head.num_heads))
        infos = [self._solve(model, feature, head) for head in heads]
        solved = time.perf_counter()
        if not dist.is_main_process():
            return
        runner.logger.info(
            f'Labelled {self._num_images} images anew: {extracted - start:.1f} s for the '
            f'features, {solved - extracted:.1f} s for the labels.'
        )
        figures = label_figures(model.memory.labels[:, heads], before[:, heads], infos)
        if self._truth is not None:
            figures |= mean_agreement(model.memory.labels[:, heads], self._truth)
        log_figures(runner, 'sela', figures, iteration=runner.iter)
        self._warn(runner, infos)

    def _features(self, runner: Runner, event: int) -> Tensor | None:
        """Features of all images on the main process, None on others."""
        loader = self._loader(runner)
        # Views unlike those of any epoch of the run, and an order of its own.
        epoch = FIRST_EPOCH + event
        for transform in transforms_of(loader.dataset):
            if hasattr(transform, 'set_epoch'):
                transform.set_epoch(runner.seed, epoch)
        if hasattr(loader.sampler, 'set_epoch'):
            loader.sampler.set_epoch(epoch)
        seed_process(runner.seed, epoch)
        return collect_features(
            runner.model,
            loader,
            lambda model, inputs: model.embed(inputs[0]),
            training=self.relabel_mode == 'train',
            device=STORAGE[self.storage][1] or None,
            # Loading draws from the random state; how often depends on the workers.
            before_batch=lambda number: seed_process(runner.seed, epoch, number + 1),
        )

    def _solve(self, model: SeLa, feature: Tensor | None, head: int) -> SinkhornInfo | None:
        """Give a head new labels, the same on all processes."""
        label = torch.empty_like(model.memory.labels[:, head])
        info = None
        if feature is not None:
            log_prob = STORAGE[self.storage][0](model, feature, head)
            solution, info = sinkhorn_labels(log_prob, **self.solver)
            label.copy_(solution)
        dist.broadcast(label)
        model.memory.relabel(head, label)
        return info

    def _loader(self, runner: Runner) -> DataLoader:
        """Build the loader on first use; its workers end with every pass over the data."""
        loader = self.relabel_dataloader
        if isinstance(loader, DataLoader):
            return loader
        if loader is None:
            # Another one than the training loader, of which an iterator is at work.
            loader = copy.deepcopy(runner.cfg.get('train_dataloader'))
            if not isinstance(loader, dict):
                raise ValueError(
                    'The runner was not given the training loader as a config. Give '
                    'SelfLabelHook one as relabel_dataloader.'
                )
            loader.update(drop_last=False, persistent_workers=False)
        self.relabel_dataloader = runner.build_dataloader(loader, seed=runner.seed)
        return self.relabel_dataloader

    def _warn(self, runner: Runner, infos: Sequence[SinkhornInfo]) -> None:
        late = [info for info in infos if not info.converged]
        if late:
            runner.logger.warning(
                f'sela: {len(late)} of {len(infos)} heads were not solved to '
                f'tol = {self.solver["tol"]} in {late[0].iterations} passes (error '
                f'{max(info.error for info in late):.3g}). Raise max_iter or tol, or lower '
                'lambd.'
            )


def label_figures(label: Tensor, before: Tensor, infos: Sequence[SinkhornInfo]) -> dict[str, float]:
    """What the new labels are like.

    Args:
        label (Tensor): int64, shape ``(N, H)``.
        before (Tensor): The old ones, likewise.
        infos (Sequence[SinkhornInfo]): Of each head.

    Returns:
        dict[str, float]: The figures by name, over all heads.
    """
    health = [cluster_health(info.sizes) for info in infos]
    rules = dict(empty=_mean, smallest=min, largest=max, entropy=_mean)
    return dict(
        change_ratio=(label != before).float().mean().item(),
        **{name: rule([one[name] for one in health]) for name, rule in rules.items()},
        passes=_mean([info.iterations for info in infos]),
        error=max(info.error for info in infos),
        cost=_mean([info.cost for info in infos]),
    )


def mean_agreement(label: Tensor, truth: Tensor) -> dict[str, float]:
    """Agreement of labels ``(N, H)`` with the true classes ``(N,)``, the mean over heads."""
    figures = [cluster_agreement(column, truth, adjusted=False) for column in label.unbind(1)]
    return {name: _mean([one[name] for one in figures]) for name in figures[0]}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
