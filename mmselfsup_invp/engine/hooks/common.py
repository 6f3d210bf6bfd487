"""Functions that several hooks use."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ...structures import sample_ids

# Data or outputs of an iteration, as MMEngine passes them to hooks.
Batch = dict | None


def unwrap(model: nn.Module) -> BaseModel:
    """Return the model inside a distributed wrapper, or the model itself."""
    return model.module if is_model_wrapper(model) else model


def require_epochs(runner: Runner, hook: Hook) -> None:
    """Raise ``TypeError`` unless the training loop counts epochs."""
    if not isinstance(runner.train_loop, EpochBasedTrainLoop):
        raise TypeError(
            f'{type(hook).__name__} counts epochs, which {type(runner.train_loop).__name__} does '
            "not. Use train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=...)."
        )


def starts_epoch(runner: Runner) -> bool:
    """Whether the epoch starts with its first batch; False in a run resumed within the epoch."""
    return not getattr(runner.train_loop, 'first_batch', 0)


def log_metrics(
    runner: Runner,
    group: str,
    metrics: dict[str, float],
    epoch: int | None = None,
    iteration: int | None = None,
) -> None:
    """Write metrics, as ``group/name``, to the log and to every visualization backend.

    Their step is ``iteration``, or else ``epoch``, by default the current epoch, counted from 1.
    """
    unit, step = ('Epoch', epoch) if iteration is None else ('Iter', iteration)
    step = runner.epoch + 1 if step is None else step
    text = '  '.join(f'{name}: {value:.4g}' for name, value in metrics.items())
    runner.logger.info(f'{unit}({group}) [{step}]  {text}')
    scalars = {f'{group}/{name}': value for name, value in metrics.items()}
    runner.visualizer.add_scalars(scalars, step=step)


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Restore the random states of Python, NumPy and torch on exit."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def check_ids(data_samples: Sequence, num: int) -> None:
    """Raise ``ValueError`` if an id is not within 0 to ``num - 1``.

    Samples without ``sample_idx`` are not checked: the algorithm raises an error for them.
    """
    if 'sample_idx' not in data_samples[0]:
        return
    # .numpy() fails for a tensor on a device, so this check can never synchronise with one.
    ids = sample_ids(data_samples).numpy()
    outside = ids[(ids < 0) | (ids >= num)]
    if len(outside):
        raise ValueError(
            f'sample_idx {outside[0]} is outside 0 to {num - 1}, the images of the training data '
            'set. Ids must be positions in it: do not change them in the pipeline.'
        )


def build_loader(runner: Runner, loader: dict | DataLoader) -> DataLoader:
    """Build a loader from its config with the seed of the run; a built one is returned as is."""
    if isinstance(loader, DataLoader):
        return loader
    return runner.build_dataloader(loader, seed=runner.seed)


def innermost_dataset(dataset: object) -> object:
    """Return the data set inside wrappers such as ``RepeatDataset``."""
    while hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    return dataset


def unit_embedding(model: BaseModel, inputs: list[Tensor]) -> Tensor:
    """Embed the first view with backbone and neck: unit rows, float32, shape ``(B, D)``."""
    embedding = model.neck(model.extract_feat(inputs))[0]
    return F.normalize(embedding.flatten(1).float(), dim=1)
