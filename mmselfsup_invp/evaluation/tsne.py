"""Two-dimensional layout of features."""

import torch
from sklearn.manifold import TSNE
from torch import Tensor

from ..ops.checks import require_features, require_range

# scikit-learn searches three times the perplexity for neighbours.
POINTS_PER_PERPLEXITY = 3


def tsne(
    features: Tensor, max_points: int = 2000, perplexity: float = 30.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Lay out features in two dimensions by t-SNE, as in Figure 7 of InterCLR.

    `van der Maaten and Hinton 2008 <https://jmlr.org/papers/v9/vandermaaten08a.html>`_, by
    scikit-learn, initialised with the principal components. Only neighbourhoods have a meaning; the
    axes and the distances between groups have none.

    Args:
        features (Tensor): Float, unit rows, shape ``(N, D)``.
        max_points (int): At most so many features, drawn at random, are laid out. Defaults to 2000.
        perplexity (float): Effective number of neighbours; at most a third of the points. Defaults
            to 30.
        seed (int): Of the draw and the layout. Defaults to 0.

    Returns:
        tuple[Tensor, Tensor]: Rows drawn, int64, ascending, shape ``(P,)``, and points, float32,
        shape ``(P, 2)``.

    Raises:
        ValueError: If there are fewer than 4 features.

    Example:
        >>> rows, points = tsne(torch.eye(8), max_points=6)
        >>> rows.shape, points.shape
        (torch.Size([6]), torch.Size([6, 2]))
    """
    require_features('features', features)
    require_range('points', min(len(features), max_points), 4, 2**31, 't-SNE needs 4 points')
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))
    rows = order[:max_points].sort().values
    perplexity = min(perplexity, (len(rows) - 1) / POINTS_PER_PERPLEXITY)
    layout = TSNE(perplexity=perplexity, init='pca', random_state=seed)
    drawn = features[rows.to(features.device)].float().cpu()
    return rows, torch.from_numpy(layout.fit_transform(drawn.numpy())).float()
