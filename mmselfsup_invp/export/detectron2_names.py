"""The weights of Detectron2's ResNets: their names and shapes, without Detectron2."""

import re
from collections.abc import Iterator
from itertools import pairwise

# Residual blocks of res2 to res5, as in its build_resnet_backbone.
BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
RENAMED = (
    (r'^(conv1|bn1)\.', r'stem.\1.'),
    (r'^layer(\d)', lambda found: f'res{int(found[1]) + 1}'),
    (r'\bbn(\d)\b', r'conv\1.norm'),
    (r'\bdownsample\.0\b', 'shortcut'),
    (r'\bdownsample\.1\b', 'shortcut.norm'),
)
Weight = tuple[str, tuple[int, ...]]


def detectron2_name(name: str) -> str:
    """Detectron2's name of a ResNet's weight, as `MoCo`_ converts it.

    .. _MoCo: https://github.com/facebookresearch/moco/tree/main/detection

    Args:
        name (str): Name in torchvision and MMClassification.

    Returns:
        str: Name in Detectron2.

    Example:
        >>> detectron2_name('layer1.0.downsample.1.bias')
        'res2.0.shortcut.norm.bias'
    """
    for pattern, new in RENAMED:
        name = re.sub(pattern, new, name)
    return name


def detectron2_shapes(depth: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all weights of Detectron2's ResNet with batch normalisation.

    Args:
        depth (int): 18, 34, 50, 101 or 152.

    Returns:
        dict[str, tuple[int, ...]]: Shapes by name, from the structure of stem and blocks.
    """
    weights = dict(_convolution('stem.conv1', 3, 64, 7))
    channels = 64
    for stage, count in enumerate(BLOCKS[depth]):
        width = 64 * 2**stage
        plan = _basic(width) if depth < 50 else _bottleneck(width)
        for block in range(count):
            weights.update(_block(f'res{stage + 2}.{block}', channels, *plan))
            channels = plan[0][-1]
    return weights


def _basic(width: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Output channels and kernels of a block's convolutions."""
    return (width, width), (3, 3)


def _bottleneck(width: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return (width, width, 4 * width), (1, 3, 1)


def _block(
    name: str, in_channels: int, outputs: tuple[int, ...], kernels: tuple[int, ...]
) -> Iterator[Weight]:
    if in_channels != outputs[-1]:
        yield from _convolution(f'{name}.shortcut', in_channels, outputs[-1], 1)
    pairs = pairwise((in_channels, *outputs))
    for number, ((old, new), kernel) in enumerate(zip(pairs, kernels, strict=True), start=1):
        yield from _convolution(f'{name}.conv{number}', old, new, kernel)


def _convolution(name: str, in_channels: int, out_channels: int, kernel: int) -> Iterator[Weight]:
    yield f'{name}.weight', (out_channels, in_channels, kernel, kernel)
    for statistic in ('weight', 'bias', 'running_mean', 'running_var'):
        yield f'{name}.norm.{statistic}', (out_channels,)
    yield f'{name}.norm.num_batches_tracked', ()
