"""Object detection with a pre-trained backbone: fine-tune a detector of mmdet, then test it."""

import copy
import logging
import os
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader, Runner, find_latest_checkpoint
from torch import nn

from ..config import dicts_in, parse_config, read_config
from ..datasets import LoadImage
from ..registry import SCOPE, TRANSFORMS
from .checkpoints import PretrainedBackbone, read_backbone
from .detection_data import check_detection_data
from .runs import separate_logs

# The columns of the papers' tables.
METRICS = ('AP', 'AP50', 'AP75')
# What a shared head has beyond the network: ResLayerExtraNorm's normalisation after layer 4.
EXTRA_NORM = 'norm.'
# Where a launcher says how many processes it started.
WORLD_SIZE = {
    'pytorch': 'WORLD_SIZE',
    'slurm': 'SLURM_NTASKS',
    'mpi': 'OMPI_COMM_WORLD_SIZE',
}
# mmcv's loader of images. mmdet's inferencer asks a config for this name, so it stays, but in the
# scope of this package it means our loader, which names a file that it cannot read.
LOADER = 'LoadImageFromFile'
TRANSFORMS.register_module(LOADER, module=LoadImage)


def run_detection(
    checkpoint: str | Path,
    config: str | Path | Config,
    work_dir: str | Path,
    data_root: str | Path | None = None,
    options: dict[str, Any] | None = None,
    random_init: bool = False,
    launcher: str = 'none',
) -> dict[str, float]:
    """Fine-tune a detector of mmdet from a pre-trained backbone, and test it (InvP, Table 4).

    An interrupted run goes on from the latest checkpoint in ``work_dir``; a finished one is only
    tested. Validation during training, which would repeat the test at its end, is left out.

    Args:
        checkpoint (str | Path): Checkpoint of a pre-training run.
        config (str | Path | Config): Config of a detector: itself, a path, or a name such as
            ``mmselfsup_invp::benchmarks/mmdetection/voc0712/faster-rcnn_r50-c4_ms-24k_voc0712.py``.
        work_dir (str | Path): Folder for logs and the detector's checkpoints.
        data_root (str | Path, optional): Folder of the images, for all splits. Defaults to None,
            those of the config.
        options (dict, optional): Other settings, ``{'train_cfg.max_iters': 100}``. They have the
            last word. Defaults to None.
        random_init (bool): Leave the backbone as it is initialised, the lower bound that tables
            call "random". Defaults to False.
        launcher (str): What started the processes of a distributed run: ``'none'``,
            ``'pytorch'``, ``'slurm'`` or ``'mpi'``. Defaults to ``'none'``.

    Returns:
        dict[str, float]: In percent, ``AP50``, and where the config evaluates at several overlaps
        ``AP75`` and ``AP``, their mean.

    Raises:
        ImportError: If mmdet or the compiled operators of mmcv are missing.
        FileNotFoundError: If there is no such checkpoint or config, or the data are not complete.
        ValueError: If the checkpoint does not fit the detector or the classes of the data do not
            fit its head, the config is a benchmark for
            another number of images a step (``auto_scale_lr.base_batch_size``), or ``work_dir``
            holds a run that began from other weights.

    Example:
        >>> figures = run_detection(
        ...     'work_dirs/invp/epoch_800.pth',
        ...     'configs/benchmarks/mmdetection/voc0712/faster-rcnn_r50-c4_ms-24k_voc0712.py',
        ...     'work_dirs/detection',
        ... )  # doctest: +SKIP
        >>> list(figures)  # doctest: +SKIP
        ['AP', 'AP50', 'AP75']
    """
    require_mmdet()
    backbone = read_backbone(checkpoint)
    cfg = detection_config(backbone, config, data_root, options, random_init)
    if not random_init:
        _check_shapes(cfg.model, backbone)
    cfg.work_dir = str(work_dir)
    cfg.launcher = launcher
    separate_logs(cfg, 'detection')
    finished = _continue(cfg)
    if not finished:
        _check_batch(cfg)
    check_detection_data(cfg, ('test',) if finished else ('train', 'test'))
    runner = Runner.from_cfg(cfg)
    if not finished:
        runner.train()
    return _in_percent(runner.test())


def require_mmdet() -> None:
    """Import mmdet, with which nothing else in this package needs to be installed.

    Raises:
        ImportError: Says what is missing and the command that installs it.
    """
    try:
        import_module('mmcv.ops')
        import_module('mmdet')
    except (ImportError, AssertionError) as error:  # mmdet asserts the versions of its parents.
        raise ImportError(
            f'Detection needs mmdet and mmcv with its compiled operators: {error}. '
            'pip install "mmdet==3.3.0" "mmcv==2.0.1"; mmcv-lite does not have the operators, and '
            'README.md says how to build mmcv where there is no wheel.'
        ) from error


def detection_config(
    backbone: PretrainedBackbone,
    config: str | Path | Config,
    data_root: str | Path | None = None,
    options: dict[str, Any] | None = None,
    random_init: bool = False,
) -> Config:
    """Config of a run that fine-tunes a detector from this backbone; see :func:`run_detection`.

    The weights go into the backbone and into the shared head of a C4 detector, which become the
    network of pre-training, and the pixels are normalised as they were there.

    Args:
        backbone (PretrainedBackbone): The checkpoint.
        config (str | Path | Config): Config of a detector: itself, left as it is, a path, or a name
            ``PACKAGE::PATH``.
        data_root (str | Path, optional): Folder of the images, for all splits. Defaults to None,
            those of the config.
        options (dict, optional): Other settings, which have the last word. Defaults to None.
        random_init (bool): Leave the backbone as it is initialised. Defaults to False.

    Returns:
        Config: All that a runner needs, but for ``work_dir``.

    Raises:
        FileNotFoundError: If there is no such config.
    """
    cfg = copy.deepcopy(config) if isinstance(config, Config) else read_config(config)
    weights = backbone.build_config(random_init).get('init_cfg')
    model = cfg.model
    parts = [model.backbone, model.get('roi_head', {}).get('shared_head')]
    for part in filter(None, parts):
        part.init_cfg = weights
        if 'style' in part:  # Which convolution of a block has the stride, no matter of weights.
            part.style = backbone.config.get('style', 'pytorch')
    if 'mean' in backbone.preprocessor:
        normalise = {key: backbone.preprocessor.get(key) for key in ('mean', 'std')}
        rgb = backbone.preprocessor.get('bgr_to_rgb', False)
        model.data_preprocessor.update(normalise, bgr_to_rgb=rgb)
    cfg.backbone_fingerprint = backbone.fingerprint(random_init)
    cfg.default_hooks.backbone = dict(type='mmselfsup.CheckBackboneHook')
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    for part in dicts_in([cfg.train_dataloader, cfg.test_dataloader]):
        if data_root is not None and 'data_root' in part:
            part.data_root = str(data_root)
        if str(part.get('type')).rpartition('.')[2] == LOADER:
            part.update(type=LOADER, _scope_=SCOPE)
    cfg.merge_from_dict(options or {})
    return cfg


def check_loaded(model: nn.Module, backbone: PretrainedBackbone) -> None:
    """Raise unless a detector's backbone holds the pre-trained weights, all of them.

    In a C4 detector layer 4 is not in the backbone but in the shared head of the regions, where it
    counts as well.

    Args:
        model (nn.Module): A detector of mmdet, initialised but not trained.
        backbone (PretrainedBackbone): What it was to be initialised with.

    Raises:
        ValueError: Names weights that are missing, unused or different.
    """
    head = getattr(getattr(model, 'roi_head', None), 'shared_head', None)
    backbone.check_loaded(_network_state(model.backbone, head))


def _check_shapes(model: Config, backbone: PretrainedBackbone) -> None:
    """Raise unless a detector's config builds the pre-trained network.

    :func:`check_loaded` tells it too, but after MMEngine has loaded what fits and listed the rest.
    """
    build = import_module('mmdet.registry').MODELS.build
    parts = [model.backbone, model.get('roi_head', {}).get('shared_head')]
    with DefaultScope.overwrite_default_scope('mmdet'):
        built = [part and build(copy.deepcopy({**part, 'init_cfg': None})) for part in parts]
    state = _network_state(*built)
    for name in state.keys() & backbone.state.keys():
        if state[name].shape == backbone.state[name].shape:
            state[name] = backbone.state[name]  # As if it were loaded.
    backbone.check_loaded(state)


def _network_state(backbone: nn.Module, head: nn.Module | None) -> dict[str, torch.Tensor]:
    """Weights of the network, wherever the detector keeps them."""
    state = dict(backbone.state_dict())
    if head is not None:
        own = head.state_dict().items()
        state |= {name: value for name, value in own if not name.startswith(EXTRA_NORM)}
    return state


def _continue(cfg: Config) -> bool:
    """Let the run in the work folder, if any, go on; True if it is finished.

    Raises:
        ValueError: If that run began with other weights, whatever their file is called.
    """
    latest = find_latest_checkpoint(cfg.work_dir)
    if latest is None:
        return False
    meta = CheckpointLoader.load_checkpoint(latest, map_location='cpu')['meta']
    former = parse_config(meta['cfg'])
    if former.get('backbone_fingerprint') != cfg.backbone_fingerprint:
        began, now = (config.model.backbone.get('init_cfg') for config in (former, cfg))
        raise ValueError(
            f'{cfg.work_dir} holds a run that began with other weights, or does not say which: '
            f'as {began}, now {now}. Give another work folder, or remove that one.'
        )
    cfg.load_from = latest
    loop = cfg.train_cfg
    if 'max_epochs' in loop:
        finished = meta['epoch'] >= loop.max_epochs
    else:
        finished = meta['iter'] >= loop.max_iters
    # A resumed loop would first draw all the batches that it has seen, only to stop then.
    cfg.resume = not finished
    return finished


def _check_batch(cfg: Config) -> None:
    """Compare the images of a step with those that the learning rate is for.

    A benchmark stands beside published figures, so it is refused with another batch. The configs of
    others, for which their hosts leave that to the user, are only warned about.

    Raises:
        ValueError: If a benchmark would train another recipe than its own.
    """
    expected = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    if expected is None or cfg.auto_scale_lr.get('enable'):
        return
    processes = int(os.environ.get(WORLD_SIZE.get(cfg.launcher, ''), 1))
    batch = cfg.train_dataloader.batch_size
    images = processes * batch
    if images == expected:
        return
    message = (
        f'The run would train on {images} images a step (batch_size {batch} x processes '
        f'{processes}), but the learning rate of the config is for {expected} '
        f'(auto_scale_lr.base_batch_size). Make batch_size x processes {expected} '
        "(several by torchrun --nproc_per_node=N and the launcher 'pytorch'), take a config for "
        'one GPU, such as voc0712-detection-96k with 4 images a step, or leave the recipe on '
        'purpose: '
        f'auto_scale_lr.enable=True scales the rate by {images / expected:g}, '
        f'auto_scale_lr.base_batch_size={images} keeps it.'
    )
    if 'benchmark' in cfg:
        raise ValueError(message)
    print_log(message, logger='current', level=logging.WARNING)


def _in_percent(found: dict[str, float]) -> dict[str, float]:
    """The papers' figures from those of mmdet's VOCMetric."""
    figures = {name.rpartition('/')[2]: 100 * float(value) for name, value in found.items()}
    if 'AP75' in figures:  # Else the mean is over one overlap.
        figures['AP'] = figures['mAP']
    return {name: figures[name] for name in METRICS if name in figures}
