"""Object detection with a pre-trained backbone: fine-tune a detector of mmdet, then test it."""

import copy
import logging
import os
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from mmengine.runner import Runner, find_latest_checkpoint
from torch import Tensor, nn

from ..config import dicts_in, read_config
from ..datasets import LoadImage
from ..registry import SCOPE, TRANSFORMS
from .checkpoints import PretrainedBackbone, read_backbone, read_checkpoint, run_config
from .detection_data import check_detection_data
from .runs import separate_logs

# The columns of the papers' tables.
METRICS = ('AP', 'AP50', 'AP75')
# Normalisation that ResLayerExtraNorm, a shared head, adds to layer 4 of the network.
EXTRA_NORM = 'norm.'
# Where a launcher stores the number of processes.
WORLD_SIZE = {
    'pytorch': 'WORLD_SIZE',
    'slurm': 'SLURM_NTASKS',
    'mpi': 'OMPI_COMM_WORLD_SIZE',
}
# mmcv's image loader. mmdet's inferencer looks for this name in a config, so our loader, which
# names a file that it cannot read, is registered under it in the scope of this package.
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

    An interrupted run continues from the latest checkpoint in ``work_dir``; a finished one is only
    tested. There is no validation during training.

    Args:
        checkpoint (str | Path): Checkpoint of a pre-training run.
        config (str | Path | Config): Config of a detector: itself, a path, or a name such as
            ``mmselfsup_invp::benchmarks/mmdetection/voc0712/faster-rcnn_r50-c4_ms-24k_voc0712.py``.
        work_dir (str | Path): Folder for logs and the detector's checkpoints.
        data_root (str | Path, optional): Folder of the images of all splits. Defaults to None, that
            of the config.
        options (dict, optional): Settings that override all others, ``{'train_cfg.max_iters':
            100}``. Defaults to None.
        random_init (bool): Leave the backbone with its initial weights, the row "random" of the
            papers. Defaults to False.
        launcher (str): Launcher of a distributed run: ``'none'``, ``'pytorch'``, ``'slurm'`` or
            ``'mpi'``. Defaults to ``'none'``.

    Returns:
        dict[str, float]: In percent, ``AP50``, and if the config evaluates at several overlaps
        ``AP75`` and ``AP``, their mean.

    Raises:
        ImportError: If mmdet or the compiled operators of mmcv are missing.
        FileNotFoundError: If the checkpoint, the config or a file of the data is missing.
        ValueError: If the checkpoint does not fit the detector, the classes of the data do not fit
            its head, the config is a benchmark for another batch size
            (``auto_scale_lr.base_batch_size``), or ``work_dir`` holds a run that started from other
            weights.

    Example:
        >>> metrics = run_detection(
        ...     'work_dirs/invp/epoch_800.pth',
        ...     'configs/benchmarks/mmdetection/voc0712/faster-rcnn_r50-c4_ms-24k_voc0712.py',
        ...     'work_dirs/detection',
        ... )  # doctest: +SKIP
        >>> list(metrics)  # doctest: +SKIP
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
    """Raise ``ImportError`` with the command to install unless mmdet, an optional part, works."""
    try:
        import_module('mmcv.ops')
        import_module('mmdet')
    except (ImportError, AssertionError) as error:  # mmdet asserts versions.
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

    The weights are loaded into the backbone and the shared head of a C4 detector, and the images
    are normalised as in pre-training.
    """
    cfg = copy.deepcopy(config) if isinstance(config, Config) else read_config(config)
    weights = backbone.build_config(random_init).get('init_cfg')
    model = cfg.model
    for part in filter(None, _network_parts(model)):
        part.init_cfg = weights
        if 'style' in part:  # Weights do not show which convolution of a block has the stride.
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
    """Raise ``ValueError`` unless a detector of mmdet has all of the pre-trained weights.

    Layer 4 may be in the backbone or, in a C4 detector, in the shared head of the regions.
    """
    head = getattr(getattr(model, 'roi_head', None), 'shared_head', None)
    backbone.check_loaded(_network_state(model.backbone, head))


def _network_parts(model: Config) -> list[Config | None]:
    """Configs of the backbone and, if there is one, of the shared head."""
    return [model.backbone, model.get('roi_head', {}).get('shared_head')]


def _network_state(backbone: nn.Module, head: nn.Module | None) -> dict[str, Tensor]:
    """Weights of the network in both parts of a detector."""
    state = dict(backbone.state_dict())
    if head is not None:
        own = head.state_dict().items()
        state |= {name: value for name, value in own if not name.startswith(EXTRA_NORM)}
    return state


def _check_shapes(model: Config, backbone: PretrainedBackbone) -> None:
    """Raise unless the config of a detector builds the pre-trained network.

    :func:`check_loaded` would find it too, but only after MMEngine has logged every weight.
    """
    build = import_module('mmdet.registry').MODELS.build
    with DefaultScope.overwrite_default_scope('mmdet'):
        built = [
            part and build(copy.deepcopy({**part, 'init_cfg': None}))
            for part in _network_parts(model)
        ]
    state = _network_state(*built)
    for name in state.keys() & backbone.state.keys():
        if state[name].shape == backbone.state[name].shape:
            state[name] = backbone.state[name]  # As if it were loaded.
    backbone.check_loaded(state)


def _continue(cfg: Config) -> bool:
    """Set up the continuation of the run in the work folder; True if that run is finished.

    A run that started from other weights, even of the same file name, raises ``ValueError``.
    """
    latest = find_latest_checkpoint(cfg.work_dir)
    if latest is None:
        return False
    checkpoint = read_checkpoint(Path(latest))
    former, meta = run_config(Path(latest), checkpoint), checkpoint['meta']
    if former.get('backbone_fingerprint') != cfg.backbone_fingerprint:
        began, now = (config.model.backbone.get('init_cfg') for config in (former, cfg))
        raise ValueError(
            f'{cfg.work_dir} holds a run that began with other weights, or does not say which: '
            f'as {began}, now {now}. Give another work folder, or remove that one.'
        )
    cfg.load_from = latest
    by_epoch = 'max_epochs' in cfg.train_cfg
    done, length = ('epoch', 'max_epochs') if by_epoch else ('iter', 'max_iters')
    finished = meta[done] >= cfg.train_cfg[length]
    cfg.resume = not finished  # Resuming a finished run would draw all of its batches first.
    return finished


def _check_batch(cfg: Config) -> None:
    """Compare the images of a step with those for which the learning rate is set.

    Benchmarks are compared with published results, so that another batch size raises
    ``ValueError``; for other configs a warning is logged.
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
        'one GPU, such as voc0712-detection-96k with 4 images a step, or change the recipe: '
        f'auto_scale_lr.enable=True scales the rate by {images / expected:g}, '
        f'auto_scale_lr.base_batch_size={images} keeps it.'
    )
    if 'benchmark' in cfg:
        raise ValueError(message)
    print_log(message, logger='current', level=logging.WARNING)


def _in_percent(found: dict[str, float]) -> dict[str, float]:
    """The metrics of the papers from those of mmdet's VOCMetric."""
    metrics = {name.rpartition('/')[2]: 100 * float(value) for name, value in found.items()}
    if 'AP75' in metrics:  # Else the mean is over one overlap.
        metrics['AP'] = metrics['mAP']
    return {name: metrics[name] for name in METRICS if name in metrics}
