"""The sections of cluster sizes and similarities."""

import torch
from torch import Tensor

from ..evaluation import similarity_distribution, similarity_metrics
from .blocks import Block, Paragraph, Unavailable
from .charts import BINS, bin_edges, histogram
from .run_data import RunData

NUM_QUERIES = 1000  # Images whose similarities are shown.


def sizes(data: RunData) -> list[Block]:
    """Show the sizes of the clusters, from the labels in the checkpoint."""
    blocks: list[Block] = []
    for name, memory in data.memories.items():
        labels = data.saved(name, 'labels')
        if labels is not None and labels.numel() and labels.min() >= 0:
            num = memory.num_clusters if hasattr(memory, 'num_clusters') else memory.num_classes
            blocks += _sizes(name, labels, num)
    if not blocks:
        raise Unavailable('the checkpoint has no labels, which InterCLR, ODC and SeLa assign')
    return blocks


def _sizes(name: str, labels: Tensor, num_clusters: int) -> list[Block]:
    """Show the sizes for labels of shape ``(N,)`` or, with several heads, ``(N, H)``."""
    heads = labels.reshape(len(labels), -1).unbind(1)
    sizes = torch.cat([head.bincount(minlength=num_clusters) for head in heads])
    each = f', for each of {len(heads)} heads' if len(heads) > 1 else ''
    title = f'Sizes of {num_clusters} clusters of {len(labels)} images{each}'
    bins = bin_edges(sizes, integer=True)
    chart = histogram({name: sizes}, title, 'images in a cluster', 'clusters', bins)
    count = sizes.double()
    text = (
        f'{name}.labels in the checkpoint: {count.min():.0f} to {count.max():.0f} images, mean '
        f'{count.mean():.1f} (thin line), standard deviation {count.std(correction=0):.1f}.'
    )
    return [chart, Paragraph(text)]


def similarities(data: RunData) -> list[Block]:
    """Show the similarity to the nearest images of the same class and of other classes."""
    if data.gallery.label is None:
        raise Unavailable('the training images have no labels')
    try:
        same, other = similarity_distribution(
            data.embedding,
            data.gallery.label,
            num_queries=NUM_QUERIES,
            generator=data.options.generator(),
        )
    except ValueError as error:
        raise Unavailable(str(error).rstrip('.')) from error
    metrics = similarity_metrics(same, other, BINS)
    chart = histogram(
        {'same class': same, 'other classes': other},
        'Cosine similarity to the nearest images',
        'cosine similarity (no unit)',
        'share of the pairs (%)',
        bin_edges(torch.cat([same, other])),
        percent=True,
    )
    text = (
        f'For {len(same) // 5} training images, the 5 nearest images of the same class and the 5 '
        f'nearest of up to 1500 images of other classes, by the {data.space} without augmentation. '
        f'Means (thin lines): {metrics["same"]:.3f} and {metrics["other"]:.3f}. The histograms '
        f'overlap by {metrics["overlap"]:.1f} % in {BINS} bins; a smaller overlap means that the '
        'classes are better separated (Figure 2a of InvP).'
    )
    return [chart, Paragraph(text)]
