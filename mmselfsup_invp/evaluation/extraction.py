"""Features of a whole data set, in the order of the data set, on every rank."""

from collections.abc import Callable

import torch
from mmengine import dist
from mmengine.model import BaseModel, is_model_wrapper
from torch import Tensor
from torch.utils.data import DataLoader

from ..datasets import num_images
from ..models.algorithms import sample_ids


@torch.no_grad()
def extract_features(
    model: BaseModel, dataloader: DataLoader, embed: Callable[[BaseModel, list[Tensor]], Tensor]
) -> Tensor:
    """Run the data set through the model in evaluation mode.

    The mode of every module is put back afterwards. With several processes each handles its
    share; repeats that a sampler pads with do no harm, for rows are placed by ``sample_idx``.

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
    model = model.module if is_model_wrapper(model) else model
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        parts = [_embed_batch(model, batch, embed) for batch in dataloader]
    finally:
        for module, mode in modes.items():
            module.training = mode
    sample, feature = (torch.cat(part) for part in zip(*parts, strict=True))
    samples, features = (torch.cat(dist.all_gather(part)) for part in (sample, feature))
    num, given = num_images(dataloader.dataset), len(samples.unique())
    if given < num:
        raise ValueError(
            f'The loader leaves out {num - given} of {num} images. Remove drop_last and use a '
            "sampler that reaches every image, such as dict(type='DefaultSampler', shuffle=False)."
        )
    ordered = features.new_empty(num, features.size(1))
    ordered[samples] = features
    return ordered


def _embed_batch(
    model: BaseModel, batch: dict, embed: Callable[[BaseModel, list[Tensor]], Tensor]
) -> tuple[Tensor, Tensor]:
    inputs, data_samples = model.data_preprocessor(batch, False)
    return sample_ids(data_samples), embed(model, inputs)
