"""Features of images: their search, clusters and near-duplicates."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import Tensor

from ..ops import Neighbours, top_m
from ..ops.checks import require_range
from ..ops.clustering import assign
from ..ops.search import default_elements, similarities
from ..options import Fraction, check_option
from .tables import read_table

FEATURES, IMAGES = 'features.npy', 'images.csv'
UNREADABLE, ABOUT = 'unreadable.csv', 'embedding.json'
QUERIES = 4096  # Searched at a time.
CLUSTER_SAMPLE = 256  # Images for each cluster from which k-means learns, as in faiss.
MAX_PAIRS = 1_000_000
ROUNDING = 1e-6  # The similarity of equal features is 1 up to rounding.


class Clusters(NamedTuple):
    """Result of :meth:`Embedding.clusters`.

    Attributes:
        label (Tensor): int64, shape ``(N,)``, 0 to C - 1.
        similarity (Tensor): float32, shape ``(N,)``, cosine to the centroid.
    """

    label: Tensor
    similarity: Tensor


class Pairs(NamedTuple):
    """Result of :meth:`Embedding.duplicates`.

    Attributes:
        rows (Tensor): int64, shape ``(P, 2)``, rows of the features.
        similarity (Tensor): float32, shape ``(P,)``.
    """

    rows: Tensor
    similarity: Tensor


@dataclass(frozen=True)
class Embedding:
    """Features of images with their paths; from :func:`embed`, or :meth:`read` from a folder.

    All methods take similarity as the inner product, the cosine of the unit features. They are
    exact, deterministic, and read features that exceed the memory block by block.

    Attributes:
        features (ndarray): float32, unit rows, shape ``(N, D)``; mapped from the file if there is
            one.
        paths (list[str]): Path of each row, relative to the folder of the images.
        unreadable (dict[str, str]): Images that were skipped, and why.
        about (dict): Checkpoint, view, device and seconds.

    Example:
        >>> embedding = Embedding(np.eye(3, dtype=np.float32), ['a.jpg', 'b.jpg', 'c.jpg'])
        >>> embedding.neighbours(1).similarity.flatten()
        tensor([0., 0., 0.])
        >>> found = embedding.search(torch.tensor([[0.0, 1.0, 0.0]]), 1)
        >>> embedding.paths[found.index]
        'b.jpg'
    """

    features: np.ndarray
    paths: list[str]
    unreadable: dict[str, str] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.paths)

    def search(self, query: np.ndarray | Tensor, k: int = 10) -> Neighbours:
        """The ``k`` images most similar to each query, by exact search.

        Args:
            query (ndarray | Tensor): Float, unit rows, shape ``(Q, D)``.
            k (int): Number of images, 1 to N. Defaults to 10.

        Returns:
            Neighbours: ``similarity``, float32, descending, and ``index``, int64, both ``(Q, k)``,
            on the CPU.
        """
        return self._search(torch.as_tensor(query), k)

    def neighbours(self, k: int = 10) -> Neighbours:
        """The ``k`` images most similar to each image, itself excluded; see :meth:`search`.

        Raises:
            ValueError: If ``k`` is not within 1 to N - 1.
        """
        return self._search(self._tensor(), k, torch.arange(len(self)))

    def _search(self, query: Tensor, k: int, exclude: Tensor | None = None) -> Neighbours:
        bank, found = self._bank(), []
        for start in range(0, len(query), QUERIES):
            rows = slice(start, start + QUERIES)
            own = None if exclude is None else exclude[rows].to(bank.device)
            part = top_m(query[rows].to(bank), bank, k, exclude=own)
            found.append([each.cpu() for each in part])
        return Neighbours(*map(torch.cat, zip(*found, strict=True)))

    def clusters(self, num_clusters: int, seed: int = 0) -> Clusters:
        """Cluster the images by k-means.

        scikit-learn's ``KMeans`` learns the centroids, the best of three k-means++ starts, from 256
        random images for each cluster if there are more; then every image gets the nearest
        centroid. Its start gives tighter clusters than the random one of
        :func:`~mmselfsup_invp.ops.clustering.kmeans`, which serves training.

        Args:
            num_clusters (int): C, 1 to N. Clusters are numbered from the largest to the smallest.
            seed (int): Seed of the sample and of the start. Defaults to 0.

        Returns:
            Clusters: The ``label`` of each image, 0 to C - 1, and its ``similarity`` to the
            centroid, a cosine.
        """
        why = f'there are {len(self)} images'
        require_range('num_clusters', num_clusters, 1, len(self), why)
        generator = np.random.default_rng(seed)
        count = min(len(self), CLUSTER_SAMPLE * num_clusters)
        sample = np.sort(generator.choice(len(self), count, replace=False))
        search = KMeans(num_clusters, n_init=3, random_state=seed).fit(self.features[sample])
        features = self._bank()
        centroids = torch.from_numpy(search.cluster_centers_).to(features)
        label = assign(features, centroids)
        order = label.bincount(minlength=num_clusters).argsort(descending=True, stable=True)
        label = order.argsort()[label]
        unit = F.normalize(centroids[order])
        parts = zip(features.split(QUERIES), label.split(QUERIES), strict=True)
        similarity = torch.cat([(part * unit[own]).sum(dim=1) for part, own in parts])
        return Clusters(label.cpu(), similarity.cpu())

    def duplicates(self, threshold: float = 0.98) -> Pairs:
        """All pairs of images that are at least this similar, the most similar first.

        Args:
            threshold (float): Cosine similarity, 0 to 1. Defaults to 0.98.

        Returns:
            Pairs: ``rows``, of which the first is the lower, and ``similarity``.

        Raises:
            ValueError: If there are over a million pairs, or ``threshold`` is not within 0 to 1.
        """
        check_option('duplicates', 'threshold', threshold, Fraction)
        blocks, count = [], 0
        for pairs in self._similar_pairs(threshold - ROUNDING):
            blocks.append(pairs)
            count += len(pairs.rows)
            if count > MAX_PAIRS:
                raise ValueError(
                    f'Over {MAX_PAIRS:,} pairs of images have a similarity of at least {threshold}.'
                    ' Raise the threshold. If it is near 1, the features have collapsed: they are '
                    'alike for all images.'
                )
        similarity = torch.cat([block.similarity for block in blocks])
        order = similarity.argsort(descending=True, stable=True)
        return Pairs(torch.cat([block.rows for block in blocks])[order], similarity[order])

    def _similar_pairs(self, threshold: float) -> Iterator[Pairs]:
        """Pairs by blocks of rows, each with the rows from its first on."""
        bank = self._bank()
        edge = max(int(default_elements(bank.device) ** 0.5), 1)
        for top in range(0, len(bank), edge):
            for left in range(top, len(bank), edge):
                scores = similarities(bank[top : top + edge], bank[left : left + edge])
                rows = (scores >= threshold).nonzero()
                rows = rows[rows[:, 0] + top < rows[:, 1] + left]  # Each pair once.
                similarity = scores[rows[:, 0], rows[:, 1]]
                yield Pairs((rows + rows.new_tensor([top, left])).cpu(), similarity.cpu())

    def _tensor(self) -> Tensor:
        return torch.from_numpy(self.features)

    def _bank(self) -> Tensor:
        """The features on the GPU, if it has memory for twice as many."""
        features = self._tensor()
        if torch.cuda.is_available() and 2 * features.nbytes < torch.cuda.mem_get_info()[0]:
            return features.cuda()
        return features

    @classmethod
    def read(cls, folder: str | Path) -> 'Embedding':
        """Read the embedding that :func:`embed` has written to a folder; the file is mapped.

        Raises:
            FileNotFoundError: If the folder holds none, or one that was interrupted.
        """
        folder = Path(folder)
        if not (folder / ABOUT).is_file():
            raise FileNotFoundError(
                f'{folder} holds no embedding, or one that was interrupted. Write it by '
                'tools/embed.py, or by embed(checkpoint, images, out).'
            )
        return cls(
            np.load(folder / FEATURES, mmap_mode='c'),  # Changes in memory do not reach the file.
            [path for (path,) in read_table(folder / IMAGES)],
            dict(read_table(folder / UNREADABLE)),
            json.loads((folder / ABOUT).read_text()),
        )
