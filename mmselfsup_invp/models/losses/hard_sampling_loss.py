from mmengine.model import BaseModule
from mmselfsup.registry import MODELS
from torch import Tensor

from ...ops import bank_similarity, exclude_anchor, instance_loss, propagation_loss
from ...ops.checks import require_choice, require_positive, require_range
from ...ops.losses import INSTANCE_BACKGROUNDS, PROPAGATION_BACKGROUNDS
from ...ops.sampling import POSITIVE_SELECTORS

# Index and similarity of the background, (B, M) each; None stands for the whole bank.
Background = tuple[Tensor | None, Tensor | None]


@MODELS.register_module()
class HardSamplingLoss(BaseModule):
    """The instance and the propagation loss of InvP on hard positives and hard negatives.

    Section 3.3 of `Unsupervised Representation Learning by Invariance Propagation
    <https://arxiv.org/abs/2010.11694>`_; :func:`~mmselfsup_invp.ops.instance_loss` and
    :func:`~mmselfsup_invp.ops.propagation_loss` have the formulas. The defaults are the paper's;
    ``background='official'``, ``instance_background='topm'``, ``eps=1e-7`` (with
    ``propagation='concat'`` in the head) are the released code.

    Args:
        temperature (float): t, positive. The paper: 0.07 for the linear neck, 0.2 for the MLP
            neck. Defaults to 0.07.
        num_background (int): M, nearest rows of the bank each image is told from; lowered to
            N - 1 on a smaller data set. Defaults to 4096.
        num_hard (int): P, positives in the loss; all of N(i) where it has fewer. Defaults to 50.
        hard_pos (str): ``'hard'`` the least similar (the paper), ``'easy'`` the most similar,
            ``'random'``, or ``'all'``. Defaults to ``'hard'``.
        hard_neg (bool): Whether the M nearest rows are the background; if not, the whole bank
            is. Defaults to True.
        background (str): Background B(i) of the propagation loss: ``'exact'`` (the paper),
            ``'topm'`` or ``'official'``. Defaults to ``'exact'``.
        exclusive (bool): Whether the image itself is taken out of the ``'topm'`` and
            ``'official'`` background. Defaults to True.
        instance_background (str): Denominator of the instance loss: ``'exact'`` (the M nearest
            others and the image itself) or ``'topm'`` (the M nearest as they rank).
            Defaults to ``'exact'``.
        eps (float): Added to each ratio inside the log; the official code has 1e-7.
            Defaults to 0.
        init_cfg (dict, optional): Not used. Defaults to None.

    Raises:
        ValueError: If an option is outside its valid values.
    """

    def __init__(
        self,
        temperature: float = 0.07,
        num_background: int = 4096,
        num_hard: int = 50,
        hard_pos: str = 'hard',
        hard_neg: bool = True,
        background: str = 'exact',
        exclusive: bool = True,
        instance_background: str = 'exact',
        eps: float = 0.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        require_positive('temperature', temperature, '0.07 or 0.2')
        if eps < 0:
            raise ValueError(f'eps = {eps} must not be negative (0, or 1e-7 as the code).')
        require_range('num_background', num_background, 1, 2**31, 'the loss needs a background')
        require_range('num_hard', num_hard, 1, 2**31, 'the loss needs a positive')
        require_choice('hard_pos', hard_pos, (*POSITIVE_SELECTORS, 'all'))
        require_choice('background', background, PROPAGATION_BACKGROUNDS)
        require_choice('instance_background', instance_background, INSTANCE_BACKGROUNDS)
        self.temperature = temperature
        self.num_background = num_background
        self.num_hard = num_hard
        self.hard_pos = hard_pos
        self.hard_neg = hard_neg
        self.background = background
        self.exclusive = exclusive
        self.instance_background = instance_background
        self.eps = eps

    @property
    def search_width(self) -> int:
        """Nearest rows a search must give: M others and the image itself; 0 without them."""
        return self.num_background + 1 if self.hard_neg else 0

    def forward(
        self,
        query: Tensor,
        bank: Tensor,
        anchor: Tensor,
        nearest: tuple[Tensor, Tensor],
        positive: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Compute both losses from one search.

        Args:
            query (Tensor): Float32, unit rows, shape ``(B, D)``.
            bank (Tensor): Float, unit rows, shape ``(N, D)``.
            anchor (Tensor): int64, shape ``(B,)``, the bank row of each query's image.
            nearest (tuple[Tensor, Tensor]): Similarity and index, ``(B, M + 1)`` each, of the
                nearest rows, the farthest last (:attr:`search_width` columns; more are cut).
            positive (tuple[Tensor, Tensor], optional): Index and mask, ``(B, L)`` each, of the
                positives. None leaves the propagation loss out.

        Returns:
            tuple[Tensor, Tensor | None]: Mean instance loss, and mean propagation loss over the
            images that have positives, both scalars.
        """
        exact, ranked = self._backgrounds(query, bank, anchor, nearest)
        background, similarity = exact if self.instance_background == 'exact' else ranked
        instance = instance_loss(
            query,
            bank,
            anchor,
            background,
            self.temperature,
            background_mode=self.instance_background,
            eps=self.eps,
            similarity=similarity,
        ).mean()
        if positive is None:
            return instance, None

        background, similarity = exact if self.background == 'exact' else ranked
        index, mask = positive
        propagation = propagation_loss(
            query,
            bank,
            anchor,
            index,
            mask,
            background,
            self.temperature,
            self.num_hard,
            self.hard_pos,
            self.background,
            exclusive=self.exclusive,
            eps=self.eps,
            similarity=similarity,
        )
        return instance, propagation.sum() / mask.any(dim=1).sum().clamp(min=1)

    def _backgrounds(
        self, query: Tensor, bank: Tensor, anchor: Tensor, nearest: tuple[Tensor, Tensor]
    ) -> tuple[Background, Background]:
        """The M nearest others of the paper, and the M nearest as they rank of the code.

        Both are views of one tensor of similarities, so that backward reads each row once.
        """
        if not self.hard_neg:
            return (None, None), (None, None)
        known, index = nearest
        if index.size(1) > self.search_width:  # Somebody else needed a wider search.
            known, kept = known.topk(self.search_width, dim=1)
            index = index.gather(1, kept)
        similarity = bank_similarity(query, bank, index, known)
        return exclude_anchor(index, anchor, similarity), (index[:, :-1], similarity[:, :-1])
