"""What the hooks share."""

from mmengine.model import BaseModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn


def unwrap(model: nn.Module) -> BaseModel:
    """The model inside a distributed wrapper, or itself."""
    return model.module if is_model_wrapper(model) else model


def log_figures(runner: Runner, group: str, figures: dict[str, float]) -> None:
    """Write figures of the finished epoch to the log and to every visualisation backend."""
    epoch = runner.epoch + 1
    text = '  '.join(f'{name}: {value:.4g}' for name, value in figures.items())
    runner.logger.info(f'Epoch({group}) [{epoch}]  {text}')
    scalars = {f'{group}/{name}': value for name, value in figures.items()}
    runner.visualizer.add_scalars(scalars, step=epoch)
