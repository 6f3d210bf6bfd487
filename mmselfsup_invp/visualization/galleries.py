"""The sections of images: positives, neighbours by hop and retrieval."""

import torch
from torch import Tensor

from ..evaluation import Retrieval, neighbours_by_hop, rank_positives, retrieve
from .blocks import Block, Gallery, Paragraph, Picture, Strip
from .images import ImageSet
from .pictures import thumbnail
from .run_data import RunData

NUM_POSITIVES = 8  # Easy and hard positives of an anchor.
MAX_OF_HOP = 16  # Neighbours of an anchor at one hop.
NUM_RETRIEVED = 10  # Nearest images of a query.
NUM_RANDOM, NUM_WORST = 4, 4  # Queries: sampled, and those with the most errors.


def positives(data: RunData) -> list[Block]:
    """Show easy and hard positives of the anchors."""
    neighbours, graph = data.graph
    groups = []
    for anchor in data.anchors:
        index, similarity = rank_positives(data.embedding, neighbours, anchor, data.hops)
        same = _share_of_class(data.gallery, anchor, index)
        strips = [_anchor_strip(data.gallery, anchor, f'{len(index)} positives', *same)]
        # Of few positives each is shown once.
        num = min(NUM_POSITIVES, len(index) // 2)
        for name, part in (('easy', slice(0, num)), ('hard', slice(len(index) - num, None))):
            found = list(zip(index[part].tolist(), similarity[part].tolist(), strict=True))
            strips.append(_strip(data.gallery, name, anchor, found))
        groups.append(strips)
    text = (
        f'Images within {data.hops} hops of an anchor on {graph}, ranked by the cosine similarity '
        f'of the {data.space}: the most similar are easy positives, the least similar hard '
        'positives (Figure 2b of InvP). The similarity stands below each image.'
    )
    return [Paragraph(text + _legend(data.gallery)), Gallery(groups)]


def hops(data: RunData) -> list[Block]:
    """Show the images that the propagation reaches at each hop."""
    neighbours, graph = data.graph
    groups = []
    for anchor in data.anchors:
        strips = [_anchor_strip(data.gallery, anchor)]
        for hop, found in enumerate(neighbours_by_hop(neighbours, anchor, data.hops), start=1):
            similarity = data.embedding[found] @ data.embedding[anchor]
            pairs = list(zip(found.tolist(), similarity.tolist(), strict=True))
            same = _share_of_class(data.gallery, anchor, found)
            shown = [f'{MAX_OF_HOP} shown'] if len(pairs) > MAX_OF_HOP else []
            note = ', '.join([f'{len(pairs)} images', *same, *shown])
            pairs = evenly_spaced(pairs, MAX_OF_HOP)
            strips.append(_strip(data.gallery, f'hop {hop}', anchor, pairs, note))
        groups.append(strips)
    text = f'The images that are first reached from an anchor at each hop on {graph}.'
    return [Paragraph(text + _legend(data.gallery)), Gallery(groups)]


def retrieval(data: RunData) -> list[Block]:
    """Show the nearest training images of images that were not trained on."""
    gallery, queries = data.gallery, data.queries
    found = retrieve(
        data.query_backbone,
        data.backbone,
        queries.label,
        gallery.label,
        min(NUM_RETRIEVED, len(data.backbone)),
    )
    groups = [_retrieved(data, found, row) for row in select_queries(found, data)]
    text = (
        f'The {found.index.size(1)} nearest training images by the cosine similarity of the pooled '
        f'features of the backbone, for {len(groups)} of {len(queries.index)} images that were not '
        'trained on (Figure 9 of InterCLR).'
    )
    if found.failed is not None:
        wrong = int((found.failed.sum(dim=1) > 0).sum())
        text += (
            f' Over all queries, {found.precision:.1f} % of the retrieved images are of the right '
            f'class, and {wrong} queries retrieve an image of another class. Shown are '
            f'{NUM_RANDOM} random queries, then those with the most errors.'
        )
    return [Paragraph(text + _legend(gallery)), Gallery(groups)]


def select_queries(found: Retrieval, data: RunData) -> list[int]:
    """Sample some queries and add those with the most errors among the others."""
    order = torch.randperm(len(found.index), generator=data.options.generator())
    if found.failed is None:
        return order[: NUM_RANDOM + NUM_WORST].tolist()
    sampled = order[:NUM_RANDOM].tolist()
    errors = found.failed.sum(dim=1)
    errors[sampled] = 0
    worst = errors.argsort(descending=True, stable=True)[:NUM_WORST]
    return sampled + worst[errors[worst] > 0].tolist()


def evenly_spaced(values: list, num: int) -> list:
    """Select at most ``num`` of the values, evenly spaced."""
    if len(values) <= num:
        return values
    return [values[round(i * (len(values) - 1) / (num - 1))] for i in range(num)]


def _retrieved(data: RunData, found: Retrieval, row: int) -> list[Strip]:
    queries, gallery = data.queries, data.gallery
    pictures = []
    for column, index in enumerate(found.index[row].tolist()):
        failed = None if found.failed is None else bool(found.failed[row, column])
        pictures.append(_picture(gallery, index, float(found.similarity[row, column]), failed))
    notes = []
    if found.failed is not None:
        right = int((~found.failed[row]).sum())
        notes = [f'class {queries.class_name(row)}', f'{right} of {len(pictures)} right']
    query = _single_picture(queries, row, 'query')
    return [Strip(f'query {queries.index[row]}', [query], ', '.join(notes)),
            Strip('nearest', pictures)]  # fmt: skip


def _anchor_strip(images: ImageSet, anchor: int, *notes: str) -> Strip:
    kind = [] if images.label is None else [f'class {images.class_name(anchor)}']
    picture = _single_picture(images, anchor, 'anchor')
    return Strip(f'anchor {images.index[anchor]}', [picture], ', '.join([*kind, *notes]))


def _single_picture(images: ImageSet, row: int, role: str) -> Picture:
    name = images.file_name(row)
    return Picture(thumbnail(images.path(row)), name, f'{role} {images.index[row]}, {name}')


def _strip(
    images: ImageSet, label: str, anchor: int, found: list[tuple[int, float]], note: str = ''
) -> Strip:
    """Show rows with their similarities, marked by whether they are of the anchor's class."""
    pictures = []
    for row, similarity in found:
        failed = None if images.label is None else bool(images.label[row] != images.label[anchor])
        pictures.append(_picture(images, row, similarity, failed))
    return Strip(label, pictures, note)


def _picture(images: ImageSet, row: int, similarity: float, failed: bool | None) -> Picture:
    name, uri = images.file_name(row), thumbnail(images.path(row))
    alt, caption = f'image {images.index[row]}, {name}', f'{similarity:.2f}'
    if failed is None:
        return Picture(uri, name, alt, caption)
    alt += f', class {images.class_name(row)}'
    # A character as well as a colour, for colour-blind readers.
    caption += f' ✗ {images.class_name(row)}' if failed else ' ✓'
    return Picture(uri, name, alt, caption, 'other' if failed else 'same')


def _share_of_class(images: ImageSet, anchor: int, found: Tensor) -> list[str]:
    """Describe the share of images of the anchor's class; empty without labels or images."""
    if images.label is None or not len(found):
        return []
    same = (images.label[found] == images.label[anchor]).float().mean().item()
    return [f'{same:.0%} of its class']


def _legend(images: ImageSet) -> str:
    if images.label is None:
        return ''
    return ' ✓: same class. ✗ and a dashed frame: another class, which is named.'
