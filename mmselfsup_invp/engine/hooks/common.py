"""What the hooks share."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from ...structures import sample_ids


def unwrap(model: nn.Module) -> BaseModel:
    """The model inside a distributed wrapper, or itself."""
    return model.module if is_model_wrapper(model) else model


def require_epochs(runner: Runner, hook: Hook) -> None:
    """Raise ``TypeError`` unless the run counts epochs, as the hook does."""
    if not isinstance(runner.train_loop, EpochBasedTrainLoop):
        raise TypeError(
            f'{type(hook).__name__} counts epochs, which {type(runner.train_loop).__name__} does '
            "not. Use train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=...)."
        )


def log_figures(
    runner: Runner,
    group: str,
    figures: dict[str, float],
    epoch: int | None = None,
    iteration: int | None = None,
) -> None:
    """Write figures to the log and to every visualisation backend.

    They are those of the epoch that now ends, unless ``epoch`` names another or ``iteration``
    counts the steps taken before them.
    """
    unit, step = ('Epoch', epoch) if iteration is None else ('Iter', iteration)
    step = runner.epoch + 1 if step is None else step
    text = '  '.join(f'{name}: {value:.4g}' for name, value in figures.items())
    runner.logger.info(f'{unit}({group}) [{step}]  {text}')
    scalars = {f'{group}/{name}': value for name, value in figures.items()}
    runner.visualizer.add_scalars(scalars, step=step)


@contextmanager
def undisturbed_random() -> Iterator[None]:
    """Put the random state of Python, NumPy and torch back afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def check_ids(data_samples: Sequence, num: int) -> None:
    """Raise if an id is not a row of a memory of ``num`` images."""
    if 'sample_idx' not in data_samples[0]:
        return  # The algorithm says what is missing.
    # NumPy refuses what is not on the host, so that no device is ever waited for here.
    ids = sample_ids(data_samples).numpy()
    outside = ids[(ids < 0) | (ids >= num)]
    if len(outside):
        raise ValueError(
            f'sample_idx {outside[0]} is outside 0 to {num - 1}, the images of the training data '
            'set. Ids must be positions in it: do not change them in the pipeline.'
        )
