"""Agreement of clusters with true classes."""

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
    - ``accuracy``: share of the images whose cluster is matched to their class, by the best
      one-to-one matching (Hungarian method). If there are more clusters than classes, or fewer,
      some are matched to nothing.

    Args:
        label (Tensor): int64, shape ``(N,)``, clusters.
        truth (Tensor): int64, shape ``(N,)``, classes.
        adjusted (bool): Whether to compute ``adjusted_nmi``, which takes long with thousands of
            clusters and classes. Defaults to True.

    Returns:
        dict[str, float]: The metrics by name.

    Raises:
        ValueError: If the lengths differ or there are no images.

    Example:
        >>> metrics = cluster_agreement(torch.tensor([2, 2, 0, 0]), torch.tensor([0, 0, 1, 1]))
        >>> metrics['accuracy'], round(metrics['nmi'])
        (100.0, 100)
    """
    if label.dim() != 1 or label.shape != truth.shape or not len(label):
        raise ValueError(
            f'label and truth must be two vectors of one length, at least 1; found shapes '
            f'{tuple(label.shape)} and {tuple(truth.shape)}.'
        )
    pair = truth.cpu().numpy(), label.cpu().numpy()
    table = contingency_matrix(*pair)
    matched = table[linear_sum_assignment(table, maximize=True)].sum()
    scores = dict(nmi=metrics.normalized_mutual_info_score(*pair))
    if adjusted:
        scores['adjusted_nmi'] = metrics.adjusted_mutual_info_score(*pair)
    scores['ari'] = metrics.adjusted_rand_score(*pair)
    scores['accuracy'] = matched / len(label)
    return {name: float(value) * 100 for name, value in scores.items()}
