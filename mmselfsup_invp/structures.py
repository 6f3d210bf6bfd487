"""Data samples and views of a batch, in the forms that the hosts give them."""

from collections.abc import Iterable, Sequence

import torch
from mmengine.dataset import default_collate
from mmengine.structures import InstanceData, LabelData
from torch import Tensor

from .compat.host import DataSample, make_sample


class SampleBatch:
    """Data samples that hold ``sample_idx`` and the meta data of their image, nothing else.

    It replaces a list of ``DataSample``, each with a tensor of its own: a worker process sends
    these one by one through shared memory, and the data preprocessor copies them one by one to the
    device. Here the ids are one tensor, which stays on the host until :func:`sample_ids` sends it
    to a device. Indexing and iteration give the samples.

    Attributes:
        ids (Tensor): int64, shape ``(B,)``.
        metainfo (list[dict]): Meta data of each sample.
    """

    def __init__(self, samples: Iterable[DataSample]) -> None:
        samples = list(samples)
        self.ids = sample_ids(samples)
        self.metainfo = [sample.metainfo for sample in samples]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> DataSample:
        """Return one sample; the ``IndexError`` beyond the last ends an iteration."""
        return make_sample(self.ids[index].reshape(1), self.metainfo[index])

    def pin_memory(self) -> 'SampleBatch':
        """Pin the ids; called by a loader with ``pin_memory=True``."""
        self.ids = self.ids.pin_memory()
        return self


def sample_ids(
    data_samples: SampleBatch | Sequence[DataSample],
    device: torch.device | None = None,
) -> Tensor:
    """Collect ``sample_idx`` of a batch.

    MMSelfSup's samples hold a tensor in ``sample_idx.value``, those of MMPretrain an int.

    Args:
        data_samples (SampleBatch | Sequence[DataSample]): The batch.
        device (torch.device, optional): Device to send the ids to, without waiting for the copy.
            Defaults to None, the device they are on.

    Returns:
        Tensor: int64, shape ``(B,)``.

    Raises:
        ValueError: If the samples hold no ``sample_idx``.
    """
    if isinstance(data_samples, SampleBatch):
        return data_samples.ids.to(device, non_blocking=True)
    if 'sample_idx' not in data_samples[0]:
        raise ValueError(
            'The samples carry no sample_idx. End the training pipeline with '
            "dict(type='PackSelfSupInputs', algorithm_keys=['sample_idx'], ...)."
        )
    if isinstance(data_samples[0].sample_idx, InstanceData):
        ids = torch.cat([sample.sample_idx.value for sample in data_samples]).long()
    else:
        ids = torch.tensor([sample.sample_idx for sample in data_samples])
    return ids.to(device, non_blocking=True)


def as_views(inputs: Tensor | list[Tensor]) -> list[Tensor]:
    """The views of a batch, ``(B, 3, H, W)`` each, as a list.

    MMPretrain's ``PackInputs`` gives a single view as a tensor, of which ``inputs[0]`` would be the
    first image.
    """
    return [inputs] if isinstance(inputs, Tensor) else inputs


def label_tensor(gt_label: Tensor | LabelData | dict) -> Tensor:
    """The classes of an image, int64, ``(L,)``, from the field ``gt_label`` of its data sample.

    It is a tensor with MMPretrain, an object with the field ``label`` with MMClassification.
    """
    return gt_label if isinstance(gt_label, Tensor) else gt_label.get('label')


def collate(batch: Sequence[dict], _scope_: str | None = None) -> dict:
    """Stack the items of a loader into a batch.

    As MMEngine's ``default_collate``, with a :class:`SampleBatch` where the data samples hold only
    ``sample_idx``. ``_scope_`` is ignored: MMEngine 0.10.7 passes it to the collate function of an
    inherited config, and its own function does not accept it.
    """
    samples = [item.get('data_samples') for item in batch]
    if not all(map(_holds_index_alone, samples)):
        return default_collate(batch)
    rest = [{key: item[key] for key in item if key != 'data_samples'} for item in batch]
    return dict(default_collate(rest), data_samples=SampleBatch(samples))


def _holds_index_alone(sample: object) -> bool:
    """Whether an object is a data sample with ``sample_idx`` and meta data."""
    if type(sample) is not DataSample or 'sample_idx' not in sample:
        return False
    return not set(sample.keys()) - {'sample_idx'}
