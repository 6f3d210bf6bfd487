"""Sections made from the images and their features: the figures of the papers."""

import torch
from torch import Tensor

from ..evaluation import (
    Retrieval,
    neighbours_by_hop,
    rank_positives,
    retrieve,
    similarity_distribution,
    similarity_metrics,
    tsne,
)
from .blocks import Absent, Block, Gallery, Paragraph, Picture, Strip
from .charts import BINS, MAX_GROUPS, edges, histogram, scatter
from .pictures import thumbnail
from .source import ImageSet, Source

NUM_QUERIES = 1000  # Of the similarity distributions.
NUM_SHOWN = 8  # Easy and hard positives of an anchor.
MAX_OF_HOP = 16  # Neighbours shown of each hop.
NUM_RETRIEVED = 10
NUM_RIGHT, NUM_FAILED = 4, 4  # Retrievals shown: any, and the worst.


def sizes(source: Source) -> list[Block]:
    """How many images the clusters have, from the labels in the checkpoint."""
    blocks: list[Block] = []
    for name, (memory, buffers) in source.memories.items():
        labels = buffers.get('labels')
        if labels is not None and labels.numel() and labels.min() >= 0:
            num = memory.num_clusters if hasattr(memory, 'num_clusters') else memory.num_classes
            blocks += _sizes(name, labels, num)
    if not blocks:
        raise Absent('no memory in the checkpoint holds labels; InterCLR, ODC and SeLa have some')
    return blocks


def _sizes(name: str, labels: Tensor, num_clusters: int) -> list[Block]:
    """Sizes for labels of shape ``(N,)`` or, with several heads, ``(N, H)``."""
    heads = labels.reshape(len(labels), -1).unbind(1)
    sizes = torch.cat([head.bincount(minlength=num_clusters) for head in heads])
    each = f', for each of {len(heads)} heads' if len(heads) > 1 else ''
    title = f'Sizes of {num_clusters} clusters of {len(labels)} images{each}'
    bins = edges(sizes, integer=True)
    chart = histogram({name: sizes}, title, 'images in a cluster', 'clusters', bins)
    spread = sizes.double()
    words = (
        f'{name}.labels in the checkpoint: {spread.min():.0f} to {spread.max():.0f} images, mean '
        f'{spread.mean():.1f} (thin line), standard deviation {spread.std(correction=0):.1f}.'
    )
    return [chart, Paragraph(words)]


def similarities(source: Source) -> list[Block]:
    """Similarity to the nearest images of the same class and of others."""
    if source.gallery.label is None:
        raise Absent('the training images have no labels')
    try:
        same, other = similarity_distribution(
            source.embedding,
            source.gallery.label,
            num_queries=NUM_QUERIES,
            generator=source.options.generator(),
        )
    except ValueError as error:
        raise Absent(str(error).rstrip('.')) from error
    bins = edges(torch.cat([same, other]))
    figures = similarity_metrics(same, other, BINS)
    chart = histogram(
        {'same class': same, 'other classes': other},
        'Cosine similarity to the nearest images',
        'cosine similarity (no unit)',
        'share of the pairs (%)',
        bins,
        share=True,
    )
    words = (
        f'{len(same) // 5} training images; for each the 5 nearest of its class and the 5 nearest '
        f'of up to 1500 drawn from other classes, by the {source.space} without augmentation. '
        f'Means (thin lines): {figures["same"]:.3f} and {figures["other"]:.3f}. The two share '
        f'{figures["overlap"]:.1f} % of their area, in {BINS} bins; the less, the better the '
        'classes are told apart (Figure 2a of InvP).'
    )
    return [chart, Paragraph(words)]


def positives(source: Source) -> list[Block]:
    """Easy and hard positives of the anchors."""
    neighbours, origin = source.graph
    groups = []
    for anchor in source.anchors:
        index, similarity = rank_positives(source.embedding, neighbours, anchor, source.hops)
        same = _share_of_class(source.gallery, anchor, index)
        strips = [_anchor_strip(source.gallery, anchor, f'{len(index)} positives', *same)]
        # Few positives are halved, so that none is shown twice.
        num = min(NUM_SHOWN, len(index) // 2)
        for name, part in (('easy', slice(0, num)), ('hard', slice(len(index) - num, None))):
            shown = list(zip(index[part].tolist(), similarity[part].tolist(), strict=True))
            strips.append(_strip(source.gallery, name, anchor, shown))
        groups.append(strips)
    words = (
        f'Images within {source.hops} steps of an anchor on {origin}, ranked by the cosine '
        f'similarity of the {source.space}: the most similar are easy positives, the least '
        'similar hard ones (Figure 2b of InvP). Below each image its similarity.'
    )
    return [Paragraph(words + _legend(source.gallery)), Gallery(groups)]


def hops(source: Source) -> list[Block]:
    """What the walk meets, step by step."""
    neighbours, origin = source.graph
    groups = []
    for anchor in source.anchors:
        strips = [_anchor_strip(source.gallery, anchor)]
        for hop, found in enumerate(neighbours_by_hop(neighbours, anchor, source.hops), start=1):
            similarity = source.embedding[found] @ source.embedding[anchor]
            pairs = list(zip(found.tolist(), similarity.tolist(), strict=True))
            same = _share_of_class(source.gallery, anchor, found)
            more = [f'{MAX_OF_HOP} shown'] if len(pairs) > MAX_OF_HOP else []
            note = ', '.join([f'{len(pairs)} images', *same, *more])
            shown = _evenly(pairs, MAX_OF_HOP)
            strips.append(_strip(source.gallery, f'hop {hop}', anchor, shown, note))
        groups.append(strips)
    words = f'The images that the walk from an anchor on {origin} meets first after so many steps.'
    return [Paragraph(words + _legend(source.gallery)), Gallery(groups)]


def retrieval(source: Source) -> list[Block]:
    """The nearest training images of images that were not trained on."""
    gallery, queries = source.gallery, source.queries
    found = retrieve(
        source.query_backbone,
        source.backbone,
        queries.label,
        gallery.label,
        min(NUM_RETRIEVED, len(source.backbone)),
    )
    groups = [_retrieved(source, found, row) for row in _draw_rows(source, found)]
    words = (
        f'The {found.index.size(1)} nearest training images by the cosine similarity of the pooled '
        f'features of the backbone, for {len(groups)} of {len(queries.number)} images that were '
        'not trained on (Figure 9 of InterCLR).'
    )
    if found.failed is not None:
        failures = int((found.failed.sum(dim=1) > 0).sum())
        words += (
            f' Over all of them {found.precision:.1f} % of what was found is of the right class, '
            f'and {failures} have a failure among theirs. Shown are {NUM_RIGHT} drawn at random, '
            'then those with the most failures.'
        )
    return [Paragraph(words + _legend(gallery)), Gallery(groups)]


def layout(source: Source) -> list[Block]:
    """The training images as points of a plane."""
    images = source.gallery
    allowed = torch.arange(len(images.number))
    if images.label is not None:
        classes = images.label.unique()
        order = torch.randperm(len(classes), generator=source.options.generator())
        classes = classes[order[:MAX_GROUPS]].sort().values
        allowed = torch.isin(images.label, classes).nonzero().squeeze(1)
    if len(allowed) < 4:
        raise Absent(f'{len(allowed)} images are too few to lay out')
    rows, points = tsne(source.backbone[allowed], seed=source.options.seed)
    groups = None
    if images.label is not None:
        label = images.label[allowed[rows]]
        groups = {
            images.name_of(value): (label == value).nonzero().squeeze(1)
            for value in label.unique().tolist()
        }
    title = f'{len(rows)} training images by t-SNE'
    words = (
        'Pooled features of the backbone. Who is near whom has a meaning; axes and distances '
        'between groups have none (Figure 7 of InterCLR).'
    )
    if groups is not None:
        words += f' Colours, marks and names are those of {len(groups)} classes.'
    return [scatter(points, groups, title), Paragraph(words)]


def _draw_rows(source: Source, found: Retrieval) -> list[int]:
    """Some queries at random, then those with the most failures among the rest."""
    order = torch.randperm(len(found.index), generator=source.options.generator())
    drawn = order[:NUM_RIGHT].tolist()
    if found.failed is None:
        return order[: NUM_RIGHT + NUM_FAILED].tolist()
    failures = found.failed.sum(dim=1)
    failures[drawn] = 0
    worst = failures.argsort(descending=True, stable=True)[:NUM_FAILED]
    return drawn + worst[failures[worst] > 0].tolist()


def _retrieved(source: Source, found: Retrieval, row: int) -> list[Strip]:
    queries, gallery = source.queries, source.gallery
    pictures = []
    for column, index in enumerate(found.index[row].tolist()):
        failed = None if found.failed is None else bool(found.failed[row, column])
        pictures.append(_picture(gallery, index, float(found.similarity[row, column]), failed))
    name = f'query {queries.number[row]}'
    note = ''
    if found.failed is not None:
        right = int((~found.failed[row]).sum())
        note = f'class {queries.class_name(row)}: {right} of {len(pictures)} right'
    query = Picture(thumbnail(queries.path(row)), f'{name}, the image to look for')
    return [Strip(name, [query], note), Strip('nearest', pictures)]


def _anchor_strip(images: ImageSet, anchor: int, *notes: str) -> Strip:
    name = f'anchor {images.number[anchor]}'
    kind = [] if images.label is None else [f'class {images.class_name(anchor)}']
    picture = Picture(thumbnail(images.path(anchor)), ', '.join([name, *kind]))
    return Strip(name, [picture], ', '.join([*kind, *notes]))


def _strip(
    images: ImageSet, label: str, anchor: int, shown: list[tuple[int, float]], note: str = ''
) -> Strip:
    """Images beside an anchor, marked by whether they are of its class."""
    pictures = []
    for row, similarity in shown:
        failed = None if images.label is None else bool(images.label[row] != images.label[anchor])
        pictures.append(_picture(images, row, similarity, failed))
    return Strip(label, pictures, note)


def _picture(images: ImageSet, row: int, similarity: float, failed: bool | None) -> Picture:
    name = f'image {images.number[row]}'
    if failed is None:
        return Picture(thumbnail(images.path(row)), name, f'{similarity:.2f}')
    name += f', class {images.class_name(row)}'
    # A sign too, for those who do not see the colour.
    caption = f'{similarity:.2f} ✗ {images.class_name(row)}' if failed else f'{similarity:.2f} ✓'
    return Picture(thumbnail(images.path(row)), name, caption, 'other' if failed else 'same')


def _share_of_class(images: ImageSet, anchor: int, found: Tensor) -> list[str]:
    """How many are of the anchor's class, in words, where that is known."""
    if images.label is None or not len(found):
        return []
    same = (images.label[found] == images.label[anchor]).float().mean().item()
    return [f'{same:.0%} of its class']


def _legend(images: ImageSet) -> str:
    if images.label is None:
        return ''
    return ' ✓: of the same class; ✗ and a dashed frame: of another, whose name follows.'


def _evenly(values: list, num: int) -> list:
    """At most so many of the values, at even distances."""
    if len(values) <= num:
        return values
    return [values[round(i * (len(values) - 1) / (num - 1))] for i in range(num)]
