"""How well clusters agree with the true classes, which took no part in making them."""

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn import metrics
from sklearn.metrics.cluster import contingency_matrix
from torch import Tensor


def cluster_agreement(label: Tensor, truth: Tensor, adjusted: bool = True) -> dict[str, float]:
    """Compare the labels of clusters with true classes, in percent.

    - ``nmi``: normalised mutual information, by the arithmetic mean of the entropies. It grows
      with the number of clusters, even by chance.
    - ``adjusted_nmi``: the same adjusted for chance, 0 for random labels.
    - ``ari``: the adjusted Rand index, 0 for random labels.
    - ``accuracy``: share of the images whose cluster is paired with their class, by the best
      pairing of clusters with classes, one to one (Hungarian method). With more clusters than
      classes, or fewer, some stay without a partner.

    Args:
        label (Tensor): int64, shape ``(N,)``, clusters.
        truth (Tensor): int64, shape ``(N,)``, classes.
        adjusted (bool): Whether to compute ``adjusted_nmi``, which takes long with thousands of
            clusters and classes. Defaults to True.

    Returns:
        dict[str, float]: The figures by name.

    Raises:
        ValueError: If the lengths differ or there are no images.

    Example:
        >>> figures = cluster_agreement(torch.tensor([2, 2, 0, 0]), torch.tensor([0, 0, 1, 1]))
        >>> figures['accuracy'], round(figures['nmi'])
        (100.0, 100)
    """
    if label.dim() != 1 or label.shape != truth.shape or not len(label):
        raise ValueError(
            f'label and truth must be two vectors of one length, at least 1; found shapes '
            f'{tuple(label.shape)} and {tuple(truth.shape)}.'
        )
    ours, theirs = label.cpu().numpy(), truth.cpu().numpy()
    figures = dict(nmi=metrics.normalized_mutual_info_score(theirs, ours))
    if adjusted:
        figures['adjusted_nmi'] = metrics.adjusted_mutual_info_score(theirs, ours)
    figures['ari'] = metrics.adjusted_rand_score(theirs, ours)
    figures['accuracy'] = _paired_share(ours, theirs)
    return {name: float(value) * 100 for name, value in figures.items()}


def _paired_share(label: np.ndarray, truth: np.ndarray) -> float:
    table = contingency_matrix(truth, label)
    return table[linear_sum_assignment(table, maximize=True)].sum() / len(label)
