"""Features of a whole data set, in the order of the data set, on every rank."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from mmengine import dist
from mmengine.model import BaseModel, is_model_wrapper
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..datasets import num_images
from ..memory import first_occurrence
from ..structures import sample_ids

# What norm layers gather in training, each process from batches of its own.
RUNNING_STATISTICS = ('running_mean', 'running_var')


@torch.no_grad()
def extract_features(
    model: BaseModel, dataloader: DataLoader, embed: Callable[[BaseModel, list[Tensor]], Tensor]
) -> Tensor:
    """Run the data set through the model in evaluation mode.

    The mode of every module is put back afterwards. With several processes each handles its
    share; repeats that a sampler pads with do no harm, for rows are placed by ``sample_idx``. All
    take over the running statistics of the main process, whose network is the one that is saved;
    training, which goes by those of the batch, is not changed by that.

    Args:
        model (BaseModel): The model, or its wrapper.
        dataloader (DataLoader): Samples packed with ``sample_idx``.
        embed (Callable): ``embed(model, inputs)`` gives the features, ``(B, D)``, of a batch
            whose views are ``inputs``.

    Returns:
        Tensor: Features in the order of the data set, shape ``(N, D)``, on the model's device.

    Raises:
        ValueError: If the loader leaves images out.
    """
    with _in_mode(model, training=False) as model:
        parts = [_embed_batch(model, batch, embed) for batch in dataloader]
    sample, feature = (torch.cat(part) for part in zip(*parts, strict=True))
    samples, features = (torch.cat(dist.all_gather(part)) for part in (sample, feature))
    num = num_images(dataloader.dataset)
    _check_complete(len(samples.unique()), num)
    ordered = features.new_empty(num, features.size(1))
    ordered[samples] = features
    return ordered


@torch.no_grad()
def collect_features(
    model: BaseModel,
    dataloader: DataLoader,
    embed: Callable[[BaseModel, list[Tensor]], Tensor],
    *,
    training: bool,
    device: torch.device | str | None = None,
    before_batch: Callable[[int], None] | None = None,
) -> Tensor | None:
    """Run the data set through the model and keep the features once, on the main process.

    As :func:`extract_features`, but made for features that are wide: they are collected batch by
    batch into their final place, and other processes keep nothing. Of an image that comes more
    than once the first feature counts. Running statistics are taken over in evaluation mode alone.

    Args:
        model (BaseModel): The model, or its wrapper.
        dataloader (DataLoader): Samples packed with ``sample_idx``, equally many batches in all
            processes.
        embed (Callable): ``embed(model, inputs)`` gives the features, ``(B, D)``, of a batch
            whose views are ``inputs``.
        training (bool): Whether the model is in training mode, with the statistics of the batch
            and with dropout.
        device (torch.device | str, optional): Where to keep them. Defaults to None, the model's
            device.
        before_batch (Callable, optional): Called with the number of a batch, from 0, before the
            model sees it. Defaults to None.

    Returns:
        Tensor | None: Features in the order of the data set, shape ``(N, D)``; None on processes
        other than the main one.

    Raises:
        ValueError: If the loader leaves images out.
    """
    num = num_images(dataloader.dataset)
    seen = torch.zeros(num, dtype=torch.bool)
    ordered = None
    with _in_mode(model, training) as model:
        for number, batch in enumerate(dataloader):
            if before_batch is not None:
                before_batch(number)
            parts = _embed_batch(model, batch, embed)
            gathered = [dist.gather(part.contiguous()) for part in parts]
            if dist.is_main_process():
                sample, feature = map(torch.cat, gathered)
                if ordered is None:
                    shape = (num, feature.size(1))
                    ordered = feature.new_empty(shape, device=device or feature.device)
                _keep_first(ordered, seen, sample.cpu(), feature)
    given = seen.sum().to(parts[0].device)
    dist.broadcast(given)
    _check_complete(int(given), num)
    return ordered


def _keep_first(ordered: Tensor, seen: Tensor, sample: Tensor, feature: Tensor) -> None:
    """Write the features of images that were not seen yet, each once."""
    new = ~seen[sample] & (first_occurrence(sample) == torch.arange(len(sample)))
    rows = new.nonzero().squeeze(1)
    index = sample[rows]
    seen[index] = True
    ordered[index.to(ordered.device)] = feature[rows.to(feature.device)].to(ordered.device)


@contextmanager
def _in_mode(model: BaseModel, training: bool) -> Iterator[BaseModel]:
    """The model inside its wrapper in this mode; that of every module is put back afterwards.

    In evaluation mode it is the same network in all processes.
    """
    model = model.module if is_model_wrapper(model) else model
    modes = {module: module.training for module in model.modules()}
    try:
        model.train(training)
        if not training:
            _share_statistics(model)
        yield model
    finally:
        for module, mode in modes.items():
            module.training = mode


def _share_statistics(model: nn.Module) -> None:
    """Give all processes the running statistics of the main one.

    Not a mean over the processes, which would change what is saved by when it was evaluated; and
    no other buffers, for memories are large and equal anyway.
    """
    for name, buffer in model.named_buffers():
        if name.rpartition('.')[2] in RUNNING_STATISTICS:
            dist.broadcast(buffer)


def _check_complete(given: int, num: int) -> None:
    if given < num:
        raise ValueError(
            f'The loader leaves out {num - given} of {num} images. Remove drop_last and use a '
            "sampler that reaches every image, such as dict(type='DefaultSampler', shuffle=False)."
        )


def _embed_batch(
    model: BaseModel, batch: dict, embed: Callable[[BaseModel, list[Tensor]], Tensor]
) -> tuple[Tensor, Tensor]:
    inputs, data_samples = model.data_preprocessor(batch, False)
    return sample_ids(data_samples, inputs[0].device), embed(model, inputs)
