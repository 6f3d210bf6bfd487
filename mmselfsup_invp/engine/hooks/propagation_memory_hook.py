from typing import Literal

import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor

from ...compat.host import HOOKS
from ...evaluation import graph_health, neighbour_purity
from ...models.heads import InvPHead
from ...models.memories import PropagationMemory, PropagationQueue
from ...ops import ramp_weight
from ...ops.ramps import Ramp
from ...options import Fraction, NonNegativeFloat, PositiveInt, checked
from .common import log_metrics, starts_epoch, unwrap
from .memory_hook import MemoryHook

# Key of the weight of the propagation loss in a checkpoint's 'meta'.
RAMP = 'ramp'


@HOOKS.register_module()
@checked
class PropagationMemoryHook(MemoryHook):
    """Maintains the memory of InvP and sets the weight of its propagation loss.

    Beside what :class:`MemoryHook` does, it builds or rebuilds the kNN graph and sets the ramp
    omega(t) at the start of every epoch.

    Logged every ``health_interval`` epochs, under ``graph/``: the metrics of
    :class:`~mmselfsup_invp.evaluation.GraphHealth`; ``mutual_share``, the share of the edges whose
    end links back; ``edge_churn``, the share of the edges that changed since the last log; and, if
    the data set has labels, ``purity_hop1`` to ``purity_hop{l}`` in percent. Warnings about the
    graph follow once the propagation loss has a weight.

    Args:
        ramp (str): omega(t): ``'binary'`` (0 through epoch ``ramp_epochs``, then 1; the paper),
            ``'gaussian'`` or ``'constant'``; see :func:`~mmselfsup_invp.ops.ramp_weight`.
            Defaults to ``'binary'``.
        ramp_epochs (float): T, length of the ramp in epochs. Defaults to 30.
        mutual_share (float, optional): Share of mutual edges at which the propagation loss starts,
            in place of the ramp: omega(t) is 1 in epochs that begin with at least this share, and
            0 otherwise. The share of a graph of queries (``refresh='iteration'``) grows as views
            of an image agree on its neighbours; 0.05 is a start that does not depend on the number
            of images or of epochs. Defaults to None, the ramp.
        initial_graph (str): ``'empty'``: a row has no neighbours until its image was visited;
            ``'knn'``: the exact graph of the initial bank. Defaults to ``'empty'``.
        refresh (str): ``'iteration'``: the row of a visited image takes the neighbours of its
            query (the official code); ``'epoch'``: the whole graph is rebuilt from the bank
            before every epoch. Defaults to ``'iteration'``.
        health_anchors (int): Images, spaced evenly, whose positives are followed for the purity.
            Defaults to 1000.
        **kwargs: See :class:`MemoryHook`.

    Example:
        >>> default_hooks = dict(memory=dict(type='PropagationMemoryHook', ramp_epochs=30))
    """

    memory_types = (PropagationMemory, PropagationQueue)
    models = 'InvP, MomentumInvP, MultiViewInvP or SoftInvP'

    def __init__(
        self,
        ramp: Ramp = 'binary',
        ramp_epochs: NonNegativeFloat = 30,
        mutual_share: Fraction | None = None,
        initial_graph: Literal['empty', 'knn'] = 'empty',
        refresh: Literal['iteration', 'epoch'] = 'iteration',
        health_anchors: PositiveInt = 1000,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.ramp = ramp
        self.mutual_share = mutual_share
        self.ramp_epochs = ramp_epochs
        self.initial_graph = initial_graph
        self.refresh = refresh
        self.refresh_on_commit = refresh == 'iteration'
        self.health_anchors = health_anchors

    def before_run(self, runner: Runner) -> None:
        """Fit the memory and warn of settings that the data set limits."""
        super().before_run(runner)
        for text in limited_settings(unwrap(runner.model), self.memory):
            runner.logger.warning(text)

    def before_train(self, runner: Runner) -> None:
        """Build the initial graph, unless a checkpoint contained one."""
        super().before_train(runner)
        if self.initial_graph == 'knn' and not self._has_edges():
            self.memory.rebuild_graph()

    def before_train_epoch(self, runner: Runner) -> None:
        """Set the weight of the propagation loss; rebuild the graph with ``refresh='epoch'``."""
        head = unwrap(runner.model).head
        if not starts_epoch(runner):
            head.ramp = self._saved_ramp
            return
        if self.mutual_share is None:
            head.ramp = ramp_weight(self.ramp, runner.epoch + 1, self.ramp_epochs)
        else:
            head.ramp = float(self.memory.graph.mutual_share() >= self.mutual_share)
        if self.refresh == 'epoch' and (runner.epoch or self.initial_graph == 'knn'):
            self.memory.rebuild_graph()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store the weight of the propagation loss, for a run resumed within the epoch."""
        super().before_save_checkpoint(runner, checkpoint)
        checkpoint['meta'][RAMP] = float(unwrap(runner.model).head.ramp)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare a checkpoint with the run and read the weight of the propagation loss."""
        super().after_load_checkpoint(runner, checkpoint)
        self._saved_ramp = checkpoint.get('meta', {}).get(RAMP, 0.0)

    def log_health(self, runner: Runner) -> None:
        """Log the state of the graph."""
        head, memory = unwrap(runner.model).head, self.memory
        neighbours = memory.graph.whole('neighbours')
        health = graph_health(memory.bank, neighbours)
        metrics = dict(health.metrics(), mutual_share=memory.graph.mutual_share())
        churn = memory.edge_churn()
        if churn is not None:
            metrics['edge_churn'] = churn
        # The slots of a queue are not the images of the data set.
        if self.true_labels is not None and memory.holds_images:
            metrics |= self._purity(neighbours, head.hops)
        log_metrics(runner, 'graph', metrics)
        if head.ramp:  # With a weight of 0 the loss does not depend on the graph.
            for text in health.warnings():
                runner.logger.warning(f'graph: {text}')

    def _has_edges(self) -> bool:
        return bool((self.memory.graph.whole('neighbours') >= 0).any())

    def _purity(self, neighbours: Tensor, hops: int) -> dict[str, float]:
        num = len(neighbours)
        anchors = torch.linspace(0, num - 1, min(self.health_anchors, num)).long()
        labels, anchors = (one.to(neighbours.device) for one in (self.true_labels, anchors))
        return neighbour_purity(neighbours, labels, hops, anchors)


def limited_settings(model: BaseModel, memory: PropagationMemory | PropagationQueue) -> list[str]:
    """Describe the options of InvP that exceed what the data set or the graph can provide."""
    if not isinstance(model.head, InvPHead):
        return []
    head, sampling, rows = model.head, model.head.loss.sampling, len(memory.bank)
    reachable = sum(memory.num_neighbours**hop for hop in range(1, head.hops + 1))
    positives = min(reachable if head.positive == 'propagate' else head.knn_k, rows - 1)
    others = f'other rows of a bank of {rows}'
    limits = [
        ('num_background', sampling.num_background or 0, rows - 1, others),
        ('knn_k', head.knn_k if head.positive == 'knn' else 0, rows - 1, others),
        ('num_hard', sampling.num_hard, positives, 'positives an image can have'),
    ]
    return [
        f'{name} = {value} is lowered to {limit}, the {what}.'
        for name, value, limit, what in limits
        if value > limit
    ]
