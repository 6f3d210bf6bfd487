"""Features of a whole data set, in the order of the data set."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from mmengine import dist
from mmengine.model import BaseModel, is_model_wrapper
from torch import Tensor
from torch.utils.data import DataLoader

from ..datasets import num_images
from ..structures import SampleBatch, as_views, sample_ids

Embed = Callable[[BaseModel, list[Tensor]], Tensor]
# Buffers of norm layers that each process updates from batches of its own.
RUNNING_STATISTICS = ('running_mean', 'running_var')


@torch.no_grad()
def extract_features(
    model: BaseModel,
    dataloader: DataLoader,
    embed: Embed,
    *,
    training: bool = False,
    main_only: bool = False,
    device: torch.device | str | None = None,
    before_batch: Callable[[int], None] | None = None,
) -> Tensor | None:
    """Run a data set through the model, without gradients.

    In evaluation mode, all processes take over the running statistics of the main one, whose
    network is the one that is saved. The mode of every module is restored afterwards.

    Args:
        model (BaseModel): The model, or its distributed wrapper.
        dataloader (DataLoader): Samples packed with ``sample_idx``, equally many batches in all
            processes. If an image comes more than once, the first feature is kept.
        embed (Callable): ``embed(model, inputs)`` gives the features, ``(B, D)``, of a batch
            whose views are ``inputs``.
        training (bool): Whether the model is in training mode, with the statistics of the batch
            and with dropout. The running statistics are then left as they are in each process.
            Defaults to False.
        main_only (bool): Whether only the main process keeps the features, for features too large
            to be held by every process. Defaults to False.
        device (torch.device | str, optional): Where to keep the features. Defaults to None, the
            model's device.
        before_batch (Callable, optional): Called with the number of a batch, from 0, before the
            model processes it. Defaults to None.

    Returns:
        Tensor | None: Features in the order of the data set, shape ``(N, D)``; None with
        ``main_only`` on processes other than the main one.

    Raises:
        ValueError: If the loader leaves images out.
    """
    gather = dist.gather if main_only else dist.all_gather
    num = num_images(dataloader.dataset)
    seen, features = bytearray(num), None
    with _in_mode(model, training) as model:
        for number, batch in enumerate(dataloader):
            if before_batch is not None:
                before_batch(number)
            inputs, data_samples = _preprocessed(model, batch)
            feature = embed(model, inputs)
            sample = sample_ids(data_samples, feature.device)
            # Empty on the processes that `gather` gives nothing.
            samples, parts = gather(sample), gather(feature.contiguous())
            if not samples:
                continue
            feature = torch.cat(parts)
            if features is None:
                shape = (num, feature.size(1))
                features = feature.new_empty(shape, device=device or feature.device)
            rows, index = _unseen(torch.cat(samples).tolist(), seen)
            features[index] = feature[rows].to(features.device)
    given = torch.tensor(sum(seen))
    dist.broadcast(given)
    if given < num:
        raise ValueError(
            f'The loader leaves out {num - int(given)} of {num} images. Remove drop_last and use a '
            "sampler that reaches every image, such as dict(type='DefaultSampler', shuffle=False)."
        )
    return features


def _preprocessed(model: BaseModel, batch: dict) -> tuple[list[Tensor], SampleBatch | list]:
    """Views and data samples; the preprocessor of MMPretrain returns a dict of them."""
    batch = model.data_preprocessor(batch, False)
    inputs, data_samples = (
        (batch['inputs'], batch['data_samples']) if isinstance(batch, dict) else batch
    )
    return as_views(inputs), data_samples


def _unseen(samples: list[int], seen: bytearray) -> tuple[list[int], list[int]]:
    """Rows of images that come for the first time, and these images, which are marked as seen."""
    rows = []
    for row, sample in enumerate(samples):
        if not seen[sample]:
            seen[sample] = 1
            rows.append(row)
    return rows, [samples[row] for row in rows]


@contextmanager
def _in_mode(model: BaseModel, training: bool) -> Iterator[BaseModel]:
    """The model inside its wrapper in this mode; that of every module is restored afterwards."""
    model = model.module if is_model_wrapper(model) else model
    modes = {module: module.training for module in model.modules()}
    try:
        model.train(training)
        if not training:
            # Only these buffers: memories are large, and equal in all processes.
            for name, buffer in model.named_buffers():
                if name.rpartition('.')[2] in RUNNING_STATISTICS:
                    dist.broadcast(buffer)
        yield model
    finally:
        for module, mode in modes.items():
            module.training = mode
