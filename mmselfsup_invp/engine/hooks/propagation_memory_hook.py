import logging

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmselfsup.registry import HOOKS
from torch import Tensor

from ...datasets import image_labels, num_images
from ...evaluation import graph_health, neighbour_purity
from ...ops import ramp_weight
from ...ops.checks import require_choice, require_range
from ...ops.ramps import RAMPS
from .common import check_faults, check_ids, log_figures, require_epochs, unwrap
from .memory_hook import MemoryHook


@HOOKS.register_module()
class PropagationMemoryHook(MemoryHook):
    """When things happen to the memory of InvP.

    Before the run the memory is sized from the data set; every epoch the weight omega(t) of the
    propagation loss is set; after every optimiser step the batch is written; now and then the
    state of the graph is logged and features are checked for NaN.

    Logged every ``health_interval`` epochs, under ``graph/``: the figures of
    :class:`~mmselfsup_invp.evaluation.GraphHealth`, ``edge_churn`` (share of the edges rewritten
    since the last time that changed) and, where the data set has labels, ``purity_hop1`` to
    ``purity_hop{l}`` in percent.

    Args:
        ramp (str): omega(t): ``'binary'`` (0 through epoch ``ramp_epochs``, then 1; the paper),
            ``'gaussian'`` or ``'constant'``; see :func:`~mmselfsup_invp.ops.ramp_weight`.
            Defaults to ``'binary'``.
        ramp_epochs (float): T, length of the ramp in epochs. Defaults to 30.
        initial_graph (str): ``'empty'``: rows lead nowhere until their image was visited;
            ``'knn'``: the exact graph of the initial bank. Defaults to ``'empty'``.
        refresh (str): ``'iteration'``: a visited image's row takes the neighbours of its query
            (the official code); ``'epoch'``: before every epoch the whole graph is rebuilt from
            the bank. Defaults to ``'iteration'``.
        health_interval (int): Epochs between two looks at the graph; 0 for none. Defaults to 1.
        health_anchors (int): Images, spread evenly, whose positives are followed for the purity.
            Defaults to 1000.
        check_interval (int): Iterations between two looks for NaN features. A look makes the
            device wait; the bank is safe in between, for such features never enter it.
            Defaults to 50.

    Raises:
        ValueError: If an option is outside its valid values.
    """

    priority = 'NORMAL'

    def __init__(
        self,
        ramp: str = 'binary',
        ramp_epochs: float = 30,
        initial_graph: str = 'empty',
        refresh: str = 'iteration',
        health_interval: int = 1,
        health_anchors: int = 1000,
        check_interval: int = 50,
    ) -> None:
        require_choice('ramp', ramp, RAMPS)
        require_range('ramp_epochs', ramp_epochs, 0, 2**31, '0 sets the full weight at once')
        require_choice('initial_graph', initial_graph, ('empty', 'knn'))
        require_choice('refresh', refresh, ('iteration', 'epoch'))
        require_range('health_interval', health_interval, 0, 2**31, '0 turns the look off')
        require_range('health_anchors', health_anchors, 1, 2**31, 'purity needs an anchor')
        require_range('check_interval', check_interval, 1, 2**31, 'it counts iterations')
        self.ramp = ramp
        self.ramp_epochs = ramp_epochs
        self.initial_graph = initial_graph
        self.refresh = refresh
        self.health_interval = health_interval
        self.health_anchors = health_anchors
        self.check_interval = check_interval

    def before_run(self, runner: Runner) -> None:
        """Size the memory; a checkpoint to resume from is loaded after this.

        Raises:
            TypeError: If the model has no memory, or the run does not count epochs.
        """
        self._labels: Tensor | None = None
        model = unwrap(runner.model)
        if not hasattr(model, 'memory'):
            raise TypeError(
                f'PropagationMemoryHook needs a model with a memory, {type(model).__name__} has '
                'none. Use it with InvP or MomentumInvP.'
            )
        require_epochs(runner, self)
        self._num_images = num_images(runner.train_dataloader.dataset)
        model.memory.fit(self._num_images)
        if hasattr(model.head, 'loss'):
            _warn_of_limits(model)

    def before_train(self, runner: Runner) -> None:
        """Build the initial graph, unless a checkpoint brought one."""
        memory = unwrap(runner.model).memory
        if self.initial_graph == 'knn' and not (memory.neighbours >= 0).any():
            memory.rebuild_graph()
        if self.health_interval:
            self._labels = image_labels(runner.train_dataloader.dataset)

    def before_train_epoch(self, runner: Runner) -> None:
        """Set the weight of the propagation loss; rebuild the graph if that is the policy."""
        model = unwrap(runner.model)
        model.head.ramp = ramp_weight(self.ramp, runner.epoch + 1, self.ramp_epochs)
        if self.refresh == 'epoch' and (runner.epoch or self.initial_graph == 'knn'):
            model.memory.rebuild_graph()

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Check the ids while they are still on the host."""
        unwrap(runner.model).memory.iteration = runner.iter + 1
        if data_batch is not None:
            check_ids(data_batch['data_samples'], self._num_images)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Write the batch into the memory."""
        memory = unwrap(runner.model).memory
        memory.commit(link=self.refresh == 'iteration')
        if self.every_n_train_iters(runner, self.check_interval):
            check_faults(memory)

    def after_train_epoch(self, runner: Runner) -> None:
        """Commit what waits for the end of the epoch, and look at the graph."""
        model = unwrap(runner.model)
        check_faults(model.memory)
        model.memory.end_epoch()
        if self.every_n_epochs(runner, self.health_interval):
            self._log_health(runner, model)

    def _log_health(self, runner: Runner, model: BaseModel) -> None:
        memory = model.memory
        health = graph_health(memory.bank, memory.neighbours)
        figures = health.figures()
        changed, written = memory.edge_changes.tolist()
        memory.edge_changes.zero_()
        if written:
            figures['edge_churn'] = changed / written
        # The rows of a queue are not the images of the data set.
        if self._labels is not None and memory.holds_images:
            rows = torch.linspace(0, len(memory) - 1, min(self.health_anchors, len(memory)))
            figures |= neighbour_purity(
                memory.neighbours,
                self._labels.to(memory.neighbours.device),
                model.head.hops,
                rows.long().to(memory.neighbours.device),
            )
        log_figures(runner, 'graph', figures)
        if model.head.ramp:  # Nobody walks the graph of an untrained network.
            for text in health.warnings():
                runner.logger.warning(f'graph: {text}')


def _warn_of_limits(model: BaseModel) -> None:
    """Say which settings the data set or the graph lowers."""
    loss, head, memory = model.head.loss, model.head, model.memory
    rows = len(memory)
    walks = sum(memory.num_neighbours**hop for hop in range(1, head.hops + 1))
    positives = min(walks if head.positive == 'propagate' else head.knn_k, rows - 1)
    others = f'other rows of a bank of {rows}'
    limits = [
        ('num_background', loss.num_background if loss.hard_neg else 0, rows - 1, others),
        ('knn_k', head.knn_k if head.positive == 'knn' else 0, rows - 1, others),
        ('num_hard', loss.num_hard, positives, 'positives an image can have'),
    ]
    for name, value, limit, what in limits:
        if value > limit:
            print_log(
                f'{name} = {value} is lowered to {limit}, the {what}.',
                logger='current',
                level=logging.WARNING,
            )
