"""Checkpoints of runs that did not take place."""

from pathlib import Path

import torch
from mmengine.config import Config

from .toy import VIEWS, build_model, model_config


def save_checkpoint(path: Path, views: list[dict] = VIEWS, **settings: object) -> Path:
    """Write the checkpoint of an untrained InvP, whose images have these views.

    Args:
        path (Path): File to write.
        views (list[dict]): Transforms of the training images. Defaults to crops of 16 pixels.
        **settings: Further settings of the config.
    """
    torch.manual_seed(0)
    model = model_config()
    pipeline = [dict(type='LoadImage'), dict(type='AugmentedViews', transforms=views)]
    loader = dict(dataset=dict(pipeline=pipeline))
    config = Config(dict(model=model, train_dataloader=loader, **settings))
    meta = dict(cfg=config.pretty_text, epoch=3, experiment_name='toy_1_2')
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=build_model(model).state_dict(), meta=meta), path)
    return path
