"""The interactive map: positions, features, graph and pictures of the training images."""

import base64
import math

import numpy as np
import torch
from torch import Tensor

from ..evaluation import tsne
from ..ops import kmeans, knn_graph
from .blocks import Block, ImageMap, Paragraph, Unavailable
from .images import sample
from .pictures import sprite_sheet
from .run_data import RunData

MIN_IMAGES, MAX_IMAGES = 4, 5000  # t-SNE of 5000 images takes about a minute on one core.
MAX_DIM = 128  # Dimensions of the features in the page.
SHEET_PIXELS = 1_800_000  # Of the pictures together: about 0.35 MB of photographs.
MIN_SIDE, MAX_SIDE = 24, 64  # Of a picture in pixels.
MAX_CLUSTERS, IMAGES_PER_CLUSTER = 20, 10


def explore(data: RunData) -> list[Block]:
    """Show the training images on a map, with their neighbours and clusters."""
    content, sheet = map_data(data)
    shown, total = len(content['names']), data.gallery.total
    size = f'{shown} images' if shown == total else f'a sample of {shown} of {total} images'
    text = (
        f'{size[0].upper()}{size[1:]} at the positions by t-SNE of the {data.space}. '
        'Neighbourhoods are meaningful; axes and distances between groups are not (Figure 7 of '
        f'InterCLR). {content["source"]} Colours are {content["clusters"]} clusters by k-means, '
        'which uses no labels'
    )
    text += ', or the classes.' if content['label'] else '.'
    return [Paragraph(text), ImageMap(content, sheet, f'Map of {size}')]


def map_data(data: RunData) -> tuple[dict, str]:
    """Collect what the script of the page reads, see ``assets/data.js``, and all pictures in one
    image, a data URI.
    """
    images, num = data.gallery, len(data.gallery.index)
    if num < MIN_IMAGES:
        raise Unavailable(f'{num} images are too few for t-SNE')
    rows = sample(num, data.anchors, MAX_IMAGES, data.options.generator())
    features = data.embedding[rows]
    neighbours, graph = _graph(data, features)
    clusters = max(2, min(MAX_CLUSTERS, len(rows) // IMAGES_PER_CLUSTER))
    position = tsne(features, len(rows), seed=data.options.seed)[1]
    position -= position.min(dim=0).values
    position /= position.max(dim=0).values.clamp(min=1e-6)
    numbers = rows.tolist()
    side = max(MIN_SIDE, min(MAX_SIDE, math.isqrt(SHEET_PIXELS // len(rows))))
    sheet, columns = sprite_sheet([images.path(row) for row in numbers], side)
    quantised, scale = quantise(reduce(features))
    label = None if images.label is None else images.label[rows]
    content = dict(
        source=f'Edges are those of {graph}.',
        folder=images.folder,
        names=[images.file_name(row) for row in numbers],
        index=images.index[rows].tolist(),
        side=side,
        columns=columns,
        position=_packed((position * 65535).round(), np.uint16),
        features=_packed(quantised, np.int8),
        scale=_packed(scale, np.float32),
        neighbours=_packed(neighbours, np.int16),
        degree=neighbours.size(1),
        hops=data.hops,
        cluster=kmeans(features, clusters, seed=data.options.seed)[0].tolist(),
        clusters=clusters,
        label=None if label is None else label.tolist(),
        classes={} if label is None else {c: images.label_name(c) for c in label.unique().tolist()},
        anchors=torch.searchsorted(rows, torch.tensor(data.anchors)).tolist(),
    )
    return content, sheet


def reduce(features: Tensor) -> Tensor:
    """Reduce features ``(N, D)`` to 128 dimensions that keep their inner products best, float32.

    The dimensions are the first right singular vectors of the features, which are not centred.
    """
    features = features.float()
    if features.size(1) <= MAX_DIM:
        return features
    vectors = torch.linalg.eigh(features.T @ features).eigenvectors  # Ascending eigenvalues.
    return features @ vectors[:, -MAX_DIM:]


def quantise(features: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise the rows ``(N, D)`` to int8, with a scale of each, float32, ``(N,)``.

    ``features`` is about ``quantised * scale[:, None]``.
    """
    scale = features.abs().amax(dim=1).clamp(min=1e-12) / 127
    return (features / scale[:, None]).round().to(torch.int8), scale


def _graph(data: RunData, features: Tensor) -> tuple[Tensor, str]:
    neighbours, source = data.graph
    if len(neighbours) == len(features):
        return neighbours, source
    k = neighbours.size(1)
    return knn_graph(features, k), f'the graph of the {k} nearest neighbours in this sample'


def _packed(values: Tensor, kind: type) -> str:
    """Encode numbers in little-endian order for a typed array of JavaScript."""
    array = values.numpy().astype(np.dtype(kind).newbyteorder('<'))
    return base64.b64encode(array.tobytes()).decode()
