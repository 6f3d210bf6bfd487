"""Frozen features of a benchmark's images, stored for a second call."""

import torch
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from rich.progress import track
from torch import Tensor, nn

from ...compat.host import MODELS
from ...datasets.files import replacing
from ...datasets.info import label_vector
from ...registry import SCOPE
from ...structures import label_tensor
from .job import Job

# Features (N, D), float32, and targets (N, C) of 1, 0 and -1, int8, in host memory: those of
# ImageNet take gigabytes.
Split = tuple[Tensor, Tensor]


def splits_of(job: Job, *names: str) -> list[Split]:
    """Pooled features and targets of splits, ``'train'`` or ``'test'``.

    The config of the job has a loader ``NAME_dataloader`` of each, ``pool_size`` and
    ``num_classes``.
    """
    device = get_device()
    backbone = job.build_backbone().to(device)
    preprocessor = MODELS.build(job.backbone.preprocessor_config()).to(device)
    return [_split(job, name, backbone, preprocessor) for name in names]


@torch.no_grad()
def _split(job: Job, name: str, backbone: nn.Module, preprocessor: nn.Module) -> Split:
    stored = job.work_dir / f'features_{name}.pth'
    if stored.is_file():
        return tuple(torch.load(stored, weights_only=True))
    with DefaultScope.overwrite_default_scope(SCOPE):
        loader = Runner.build_dataloader(job.config[f'{name}_dataloader'], seed=job.seed)
    pool = nn.AdaptiveAvgPool2d(job.config.pool_size)
    num, classes = len(loader.dataset), job.config.num_classes
    features, targets = None, torch.empty(num, classes, dtype=torch.int8)
    start = 0
    for batch in track(loader, f'features of {name}'):
        data = preprocessor(batch)
        feature = pool(backbone(data['inputs'])[-1]).flatten(1).float()
        if features is None:  # Filled in place: a list of batches would need twice the memory.
            features = torch.empty(num, feature.size(1))
        rows = slice(start, start + len(feature))
        features[rows] = feature.cpu()
        targets[rows] = torch.stack([_target(each, classes) for each in data['data_samples']])
        start += len(feature)
    with replacing(stored) as part:
        torch.save([features, targets], part)
    return features, targets


def _target(sample: object, num_classes: int) -> Tensor:
    label = label_tensor(sample.gt_label).cpu().long()
    difficult = sample.get('gt_label_difficult')
    # An image of VOC may have difficult objects alone, or none.
    highest = max([*label.tolist(), *(difficult or [])], default=0)
    if highest >= num_classes:
        raise ValueError(
            f'The config says {num_classes} classes, but {sample.get("img_path")} has the label '
            f'{highest}. Set num_classes of the config, or give the right data set.'
        )
    return label_vector(label, difficult, num_classes)
