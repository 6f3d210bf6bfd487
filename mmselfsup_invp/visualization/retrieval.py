"""The section of retrieval: the nearest training images of images that were not trained on."""

import torch

from ..evaluation import Retrieval, retrieve
from .blocks import Block, Gallery, Paragraph, Picture, Strip
from .images import ImageSet
from .pictures import thumbnail
from .run_data import RunData

NUM_RETRIEVED = 10  # Nearest images of a query.
NUM_RANDOM, NUM_WORST = 4, 4  # Queries: sampled, and those with the most errors.
LEGEND = ' ✓: same class. ✗ and a dashed frame: another class, which is named.'


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
        'trained on (Figure 9 of InterCLR). The similarity stands below each image.'
    )
    if found.failed is not None:
        wrong = int((found.failed.sum(dim=1) > 0).sum())
        text += (
            f' Over all queries, {found.precision:.1f} % of the retrieved images are of the right '
            f'class, and {wrong} queries retrieve an image of another class. Shown are '
            f'{NUM_RANDOM} random queries, then those with the most errors.{LEGEND}'
        )
    return [Paragraph(text), Gallery(groups)]


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
    name = queries.file_name(row)
    alt = f'query {queries.index[row]}, {name}'
    query = Picture(thumbnail(queries.path(row)), name, alt)
    return [Strip(f'query {queries.index[row]}', [query], ', '.join(notes)),
            Strip('nearest', pictures)]  # fmt: skip


def _picture(images: ImageSet, row: int, similarity: float, failed: bool | None) -> Picture:
    name, uri = images.file_name(row), thumbnail(images.path(row))
    alt, caption = f'image {images.index[row]}, {name}', f'{similarity:.2f}'
    if failed is None:
        return Picture(uri, name, alt, caption)
    alt += f', class {images.class_name(row)}'
    # A character as well as a colour, for colour-blind readers.
    caption += f' ✗ {images.class_name(row)}' if failed else ' ✓'
    return Picture(uri, name, alt, caption, 'other' if failed else 'same')
