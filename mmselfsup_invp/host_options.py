"""Valid values of options of MMEngine, MMClassification, PyTorch and torchvision.

Their constructors declare few types and no ranges, so that a wrong value fails late or trains.
:mod:`~mmselfsup_invp.config_checks` checks configs against these tables. They list the options that
pre-training configs set; other options are not restricted.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from .options import (
    Channels,
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFraction,
    PositiveInt,
    Range,
    Seed,
)

Options = dict[str, Any]

OptionalDict = dict | None
LearningRate = Annotated[float, Range(0, 10_000, above=True)]
Pixel = Annotated[float, Range(-1000, 1000)]
PixelScale = Annotated[float, Range(0, 1000, above=True)]
ImageSize = Annotated[int, Range(1, 16384)]
Size = ImageSize | tuple[ImageSize] | tuple[ImageSize, ImageSize]
# -1 is MMEngine's and MMClassification's value for "never" and "all".
IntOrMinusOne = Annotated[int, Range(-1, 2**31 - 1)]
# Half the range of a factor around 1, or the range.
Jitter = NonNegativeFloat | tuple[NonNegativeFloat, NonNegativeFloat]
Hue = (
    Annotated[float, Range(0, 0.5)]
    | tuple[Annotated[float, Range(-0.5, 0.5)], Annotated[float, Range(-0.5, 0.5)]]
)
Degrees = Annotated[float, Range(0, 360)]

TOP_LEVEL: Options = {
    'model': dict,
    'work_dir': str | None,
    'train_dataloader': OptionalDict,
    'val_dataloader': OptionalDict,
    'test_dataloader': OptionalDict,
    'train_cfg': OptionalDict,
    'val_cfg': OptionalDict,
    'test_cfg': OptionalDict,
    'optim_wrapper': OptionalDict,
    'param_scheduler': dict | list[dict] | None,
    'val_evaluator': dict | list[dict] | None,
    'test_evaluator': dict | list[dict] | None,
    'default_hooks': dict[str, dict | None] | None,
    'custom_hooks': list[dict] | None,
    'randomness': dict,
    'env_cfg': dict,
    'auto_scale_lr': OptionalDict,
    'log_processor': OptionalDict,
    'visualizer': OptionalDict,
    'custom_imports': OptionalDict,
    'load_from': str | None,
    'resume': bool,
    'launcher': Literal['none', 'pytorch', 'slurm', 'mpi'],
    'log_level': Literal['CRITICAL', 'ERROR', 'WARNING', 'INFO', 'DEBUG', 'NOTSET'],
    'default_scope': str | None,
    'experiment_name': str | None,
    'sync_bn': str | None,
    'find_unused_parameters': bool,
}

DATALOADER: Options = {
    'batch_size': Annotated[int, Range(1, 2**24)],
    'dataset': dict,
    'sampler': OptionalDict,
    'batch_sampler': OptionalDict,
    'collate_fn': OptionalDict,
    'worker_init_fn': OptionalDict,
    'num_workers': Annotated[int, Range(0, 1024)],
    'persistent_workers': bool,
    'pin_memory': bool,
    'pin_memory_device': str,
    'drop_last': bool,
    'timeout': NonNegativeFloat,
    'prefetch_factor': PositiveInt | None,
    'multiprocessing_context': str | None,
    'generator': Any,
    'in_order': bool,
    'num_batch_per_epoch': PositiveInt | None,
    'disable_subprocess_warning': bool,
}

# Dicts without a type, by their place.
SECTIONS: dict[str, Options] = {
    'randomness': {'seed': Seed | None, 'diff_rank_seed': bool, 'deterministic': bool},
    'env_cfg': {
        'cudnn_benchmark': bool,
        'mp_cfg': dict,
        'dist_cfg': dict,
        'resource_limit': PositiveInt,
    },
    'env_cfg.mp_cfg': {
        'mp_start_method': Literal['fork', 'spawn', 'forkserver'],
        'opencv_num_threads': NonNegativeInt,
    },
    'auto_scale_lr': {'enable': bool, 'base_batch_size': PositiveInt},
    'train_cfg': {
        'by_epoch': bool,
        'max_epochs': PositiveInt,
        'max_iters': PositiveInt,
        'val_begin': PositiveInt,
        'val_interval': PositiveInt,
        'dynamic_intervals': Any,
    },
    'optim_wrapper.paramwise_cfg': {
        'custom_keys': dict[str, dict],
        'bias_lr_mult': NonNegativeFloat,
        'bias_decay_mult': NonNegativeFloat,
        'norm_decay_mult': NonNegativeFloat,
        'flat_decay_mult': NonNegativeFloat,
        'dwconv_decay_mult': NonNegativeFloat,
        'dcn_offset_lr_mult': NonNegativeFloat,
        'bypass_duplicate': bool,
    },
    'custom_imports': {'imports': str | list[str], 'allow_failed_imports': bool},
}

# Options of a group of parameters, in custom_keys of paramwise_cfg.
PARAMETER_GROUP: Options = {
    'lr_mult': NonNegativeFloat,
    'decay_mult': NonNegativeFloat,
    'lr': LearningRate,
    'momentum': Fraction,
    'weight_decay': NonNegativeFloat,
    'lars_exclude': bool,
}

PREPROCESSOR: Options = {
    'mean': Sequence[Pixel] | None,
    'std': Sequence[PixelScale] | None,
    'pad_size_divisor': PositiveInt,
    'pad_value': Pixel,
    'to_rgb': bool,
    'bgr_to_rgb': bool,
    'rgb_to_bgr': bool,
    'non_blocking': bool | None,
    'to_onehot': bool,
    'num_classes': PositiveInt | None,
    'batch_augments': OptionalDict,
}
OPTIMIZER: Options = {
    'lr': LearningRate,
    'momentum': Fraction,
    'weight_decay': NonNegativeFloat,
    'dampening': Fraction,
    'nesterov': bool,
    'eps': NonNegativeFloat,
    'betas': tuple[Fraction, Fraction],
    'amsgrad': bool,
}
SCHEDULER: Options = {
    'begin': NonNegativeInt,
    'end': PositiveInt,
    'by_epoch': bool,
    'convert_to_iter_based': bool,
    'T_max': PositiveInt,
    'eta_min': NonNegativeFloat,
    'gamma': PositiveFraction,
    'milestones': Sequence[NonNegativeInt],
    'step_size': PositiveInt,
    'start_factor': PositiveFraction,
    'end_factor': PositiveFraction,
}
NECK_AND_HEAD: Options = {
    'in_channels': Channels,
    'hid_channels': Channels,
    'out_channels': Channels,
    'num_classes': PositiveInt,
    'with_avg_pool': bool,
    'loss': dict,
}

# By package and class; subclasses have the options of their bases.
COMPONENTS: dict[str, Options] = {
    'mmengine.BaseDataPreprocessor': PREPROCESSOR,
    'torch.Optimizer': OPTIMIZER,
    'mmengine._ParamScheduler': SCHEDULER,
    'mmengine.OptimWrapper': {
        'optimizer': dict,
        'accumulative_counts': PositiveInt,
        'clip_grad': OptionalDict,
        'paramwise_cfg': OptionalDict,
    },
    'mmengine.EpochBasedTrainLoop': {
        'max_epochs': PositiveInt,
        'val_begin': PositiveInt,
        'val_interval': PositiveInt,
    },
    'mmengine.IterBasedTrainLoop': {
        'max_iters': PositiveInt,
        'val_begin': PositiveInt,
        'val_interval': PositiveInt,
    },
    'mmengine.LoggerHook': {'interval': PositiveInt},
    'mmengine.CheckpointHook': {'interval': IntOrMinusOne, 'max_keep_ckpts': IntOrMinusOne},
    'mmengine.DefaultSampler': {'shuffle': bool, 'round_up': bool, 'seed': Seed | None},
    'mmselfsup.BaseModel': {
        'backbone': dict,
        'neck': OptionalDict,
        'head': OptionalDict,
        'memory_bank': OptionalDict,
        'data_preprocessor': OptionalDict,
        'pretrained': str | None,
    },
    'mmcls.BaseDataset': {
        'data_root': str,
        'data_prefix': str | dict[str, str],
        'ann_file': str,
        'pipeline': list[dict],
    },
    'mmselfsup.PackSelfSupInputs': {
        'key': str,
        'algorithm_keys': Sequence[str],
        'pseudo_label_keys': Sequence[str],
        'meta_keys': Sequence[str],
    },
    'mmcls.ResNet': {
        'depth': PositiveInt,
        'in_channels': Channels,
        'stem_channels': Channels,
        'base_channels': Channels,
        'num_stages': Annotated[int, Range(1, 4)],
        'out_indices': Sequence[Annotated[int, Range(0, 4)]],
        'strides': Sequence[PositiveInt],
        'dilations': Sequence[PositiveInt],
        'frozen_stages': Annotated[int, Range(-1, 4)],
        'deep_stem': bool,
        'avg_down': bool,
        'norm_eval': bool,
        'with_cp': bool,
        'zero_init_residual': bool,
        'drop_path_rate': Fraction,
    },
    'mmselfsup.ODCNeck': NECK_AND_HEAD,
    'mmselfsup.ClsHead': NECK_AND_HEAD,
    'torchvision.RandomResizedCrop': {
        'size': Size,
        'scale': tuple[PositiveFraction, PositiveFraction],
        'ratio': tuple[PixelScale, PixelScale],
    },
    'torchvision.RandomAffine': {
        'degrees': Degrees | tuple[float, float],
        'translate': tuple[Fraction, Fraction] | None,
        'scale': tuple[PixelScale, PixelScale] | None,
    },
    'torchvision.ColorJitter': {
        'brightness': Jitter,
        'contrast': Jitter,
        'saturation': Jitter,
        'hue': Hue,
    },
    'torchvision.RandomRotation': {'degrees': Degrees | tuple[float, float]},
    'torchvision.RandomHorizontalFlip': {'p': Fraction},
    'torchvision.RandomGrayscale': {'p': Fraction},
    'torchvision.RandomApply': {'p': Fraction},
    'torchvision.Resize': {'size': Size},
    'torchvision.CenterCrop': {'size': Size},
    'torchvision.RandomCrop': {'size': Size},
    'kornia.RandomResizedCrop': {
        'size': Size,
        'scale': tuple[PositiveFraction, PositiveFraction],
        'cropping_mode': Literal['slice', 'resample'],
        'p': Fraction,
    },
    'kornia.RandomAffine': {
        'degrees': Degrees | tuple[float, float],
        'translate': tuple[Fraction, Fraction] | None,
        'p': Fraction,
    },
    'kornia.ColorJitter': {
        'brightness': Jitter,
        'contrast': Jitter,
        'saturation': Jitter,
        'hue': Hue,
        'p': Fraction,
    },
}
