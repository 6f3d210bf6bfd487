"""The view of an image without augmentation, at the size that a network was trained at."""

from typing import Any

from mmengine.config import Config, ConfigDict

from ..config import dicts_in, require_registered

CROPS = ('RandomResizedCrop', 'RandomCrop', 'CenterCrop')
RESIZES = ('Resize', 'ResizeEdge')
SIZES = ('size', 'crop_size', 'scale')  # Options of crops in torchvision, MMClassification, mmcv.
Size = tuple[int, int]


def centre_view(config: Config, size: int | None = None) -> list[dict[str, Any]]:
    """Configs of transforms that give every image the size at which a network was trained.

    The transforms of the config's pipeline without augmentation come first, see
    :func:`evaluation_pipeline`. Then the shorter edge is resized to the training size, or to
    ``size``, and the centre is cropped. This changes no view that has the training size already,
    and lets images of any size and shape share a batch. Of an image longer than 16 times its width
    only the centre is resized, see :class:`~mmselfsup_invp.datasets.LimitAspectRatio`, unless
    transforms of the pipeline other than resizing the shorter edge and cropping the centre could
    see the difference.

    Raises:
        ValueError: If the training size is not found, or a transform is not registered.

    Example:
        >>> crop = dict(type='RandomResizedCrop', size=32)
        >>> views = dict(type='AugmentedViews', transforms=[crop])
        >>> config = Config(dict(train_dataloader=dict(dataset=dict(pipeline=[views]))))
        >>> centre_view(config)[-1]['transforms'][-1]
        {'type': 'CenterCrop', 'size': (32, 32)}
    """
    target = (size, size) if size else training_size(config)
    crop = [dict(type='Resize', size=max(target)), dict(type='CenterCrop', size=target)]
    # With another size, the resizing of the pipeline would only blur or enlarge the images.
    steps = [] if size else [dict(step) for step in evaluation_pipeline(config) or ()]
    view = [step for step in steps if not _loads_or_packs(step['type'])]
    if view and _name(view[-1]['type']) == 'AugmentedViews':
        crop = [*view.pop()['transforms'], *crop]
    if _see_the_centre_alone([*view, *crop]):
        view.insert(0, dict(type='LimitAspectRatio'))
    view.append(dict(type='AugmentedViews', transforms=crop))
    require_registered(view)
    return view


def training_size(config: Config) -> Size:
    """Height and width of the views of a training run; the largest if there are several."""
    model = config.get('model') or {}
    parts = [config.get('train_dataloader'), model.get('data_preprocessor')]
    for names in (CROPS, RESIZES):
        sizes = [_size(part) for part in dicts_in(parts) if _name(part.get('type')) in names]
        if found := [size for size in sizes if size]:
            return max(found)
    raise ValueError(
        'The size of the training views is not found: the pipeline of train_dataloader has none '
        f'of {", ".join((*CROPS, *RESIZES))} with a size. Give the size by --size (size=N).'
    )


def evaluation_pipeline(config: Config) -> list[ConfigDict] | None:
    """Pipeline without augmentation of ``KNNEvalHook``, of a cluster hook or ``test_pipeline``, or
    None.
    """
    hook = knn_hook(config)
    clusters = (config.get('default_hooks') or {}).get('clusters') or {}
    if hook is not None:
        return hook.query_dataloader.dataset.pipeline
    if 'extract_dataloader' in clusters:
        return clusters.extract_dataloader.dataset.pipeline
    return config.get('test_pipeline')


def knn_hook(config: Config) -> ConfigDict | None:
    """Config of the ``KNNEvalHook``, with or without a scope in its type; None without one."""
    hooks = [*(config.get('default_hooks') or {}).values(), *(config.get('custom_hooks') or [])]
    return next((hook for hook in hooks if hook and _name(hook['type']) == 'KNNEvalHook'), None)


def _name(kind: Any) -> str:
    return str(kind).rpartition('.')[2]


def _loads_or_packs(kind: str) -> bool:
    return _name(kind).startswith(('Load', 'Pack'))


def _see_the_centre_alone(steps: list[dict]) -> bool:
    """Whether transforms resize the shorter edge, then crop centres and resize the shorter edge."""
    crops = [_name(step['type']) == 'CenterCrop' for step in steps]
    fit = (crop or _fits_shorter_edge(step) for crop, step in zip(crops, steps, strict=True))
    return not crops[0] and all(fit)


def _fits_shorter_edge(step: dict) -> bool:
    """Whether a transform is ``Resize`` of torchvision or ``ResizeEdge`` of the shorter edge."""
    if _name(step['type']) == 'ResizeEdge':
        return step.get('edge', 'short') == 'short'
    fits = isinstance(step.get('size'), int) and step.get('max_size') is None
    return _name(step['type']) == 'Resize' and fits


def _size(part: dict) -> Size | None:
    """Height and width of a crop; a scale may also be a range of areas, below 1."""
    for value in map(part.get, SIZES):
        edges = tuple(value) if isinstance(value, (list, tuple)) else (value, value)
        if len(edges) == 2 and all(isinstance(edge, int) and edge > 1 for edge in edges):
            return edges
    return None
