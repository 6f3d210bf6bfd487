import torch
from mmengine import dist
from torch import Tensor

from ...compat.host import MODELS
from ...memory import FeatureQueue
from ...memory.initial import InitialRows, RowType
from ...ops.search import BackendName
from ...options import Channels, InitCfg, PositiveInt, Seed, checked
from .base import gather_ranks
from .graph_memory import GraphMemory


@MODELS.register_module()
@checked
class PropagationQueue(GraphMemory):
    """Queue of the latest keys of a momentum encoder and the kNN graph over them.

    The alternative to a bank that `InvP <https://arxiv.org/abs/2010.11694>`_ suggests for large
    data sets (section 3.1): its size does not grow with the data, and no key is older than
    ``length`` images. The keys of a batch are inserted before the loss, so that the slot of each
    image is its anchor. Edges to a slot are removed when it is overwritten.

    Args:
        length (int): Slots; lowered to the size of the data set, where two keys of an image would
            be each other's negatives. Defaults to 65536, as in MoCo.
        num_neighbours (int): k, neighbours of a row. Defaults to 4 (the paper).
        backend (str): How to search, see :func:`~mmselfsup_invp.ops.top_m`. Defaults to ``'auto'``.
        feat_dim, init, seed, dtype: See :class:`~mmselfsup_invp.memory.FeatureQueue`.
        init_cfg (dict, optional): Not used. Defaults to None.

    Example:
        >>> queue = PropagationQueue(feat_dim=2, num_neighbours=1, length=3)
        >>> slot = queue.insert(torch.eye(2), torch.tensor([7, 4]))
        >>> queue.stage(slot, torch.eye(2), torch.tensor([[1], [2]]))
        >>> queue.neighbours.tolist()
        [[1], [2], [-1]]
    """

    needs_keys = True
    rows_from_keys = True

    def __init__(
        self,
        length: PositiveInt = 65536,
        num_neighbours: PositiveInt = 4,
        backend: BackendName = 'auto',
        feat_dim: Channels = 128,
        init: InitialRows = 'unit',
        seed: Seed = 0,
        dtype: RowType = 'float32',
        init_cfg: InitCfg = None,
    ) -> None:
        queue = FeatureQueue(feat_dim, length, init=init, seed=seed, dtype=dtype)
        super().__init__(queue, num_neighbours, backend, init_cfg)

    @property
    def pointer(self) -> Tensor:
        """The slot to write next, int64."""
        return self.features.pointer

    @torch.no_grad()
    def insert(self, key: Tensor, sample_idx: Tensor) -> Tensor:
        """Write the keys of every rank in place of the oldest and remove the edges to those.

        Args:
            key (Tensor): Float, unit rows, shape ``(B, D)``; where one is not finite, the slot
                keeps its old feature.
            sample_idx (Tensor): int64, shape ``(B,)``.

        Returns:
            Tensor: int64, shape ``(B,)``: the slots of this rank's keys, the anchors.

        Raises:
            ValueError: If the batch of all ranks is longer than the queue.
        """
        keys, samples = gather_ranks(key, sample_idx)
        slot = self.features.push(keys, samples, self.monitor.watch(samples, keys))
        self.graph.forget(slot)
        start = dist.get_rank() * len(key)
        return slot[start : start + len(key)]

    def stage(self, anchor: Tensor, feature: Tensor, neighbours: Tensor) -> None:
        """Link the anchors at once: the walk from them begins with these edges.

        Backward reads the features, which do not change here.

        Args:
            anchor (Tensor): int64, shape ``(B,)``, slots that :meth:`insert` returned.
            feature (Tensor): Float, shape ``(B, D)``, the queries of the search. Slots of those
                that are not finite have no edges.
            neighbours (Tensor): int64, shape ``(B, k)``.
        """
        super().stage(anchor, feature, neighbours)
        self.commit()

    def write(self, anchor: Tensor, feature: Tensor, neighbours: Tensor) -> None:
        """With :attr:`refresh`, link the slots; the queue already holds their keys."""
        finite = self.monitor.watch(self.features.sample_idx[anchor], feature)
        if self.refresh:
            self.graph.link(anchor, neighbours, finite)
