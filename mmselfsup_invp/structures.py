"""Data samples of a batch as one object: cheap to send from a worker and to a device."""

from collections.abc import Iterable, Sequence

import torch
from mmengine.dataset import default_collate
from mmengine.structures import InstanceData
from mmselfsup.structures import SelfSupDataSample
from torch import Tensor


class SampleBatch:
    """Data samples that hold ``sample_idx`` and the meta data of their image, nothing else.

    It replaces a list of ``SelfSupDataSample``, each with a tensor of its own: a worker process
    sends these one by one through shared memory, and the data preprocessor copies them one by one
    to the device. Here the ids are one tensor, which stays on the host until :func:`sample_ids`
    sends it to a device. Indexing and iteration give the samples.

    Args:
        samples (Iterable[SelfSupDataSample]): With ``sample_idx``.

    Attributes:
        ids (Tensor): int64, shape ``(B,)``.
        metainfo (list[dict]): Meta data of each sample.

    Example:
        >>> sample = SelfSupDataSample(sample_idx=InstanceData(value=torch.tensor([7])))
        >>> batch = SampleBatch([sample, sample])
        >>> batch.ids, batch[1].sample_idx.value
        (tensor([7, 7]), tensor([7]))
    """

    def __init__(self, samples: Iterable[SelfSupDataSample]) -> None:
        samples = list(samples)
        self.ids = sample_ids(samples)
        self.metainfo = [sample.metainfo for sample in samples]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> SelfSupDataSample:
        """Return one sample; the ``IndexError`` beyond the last ends an iteration."""
        value = self.ids[index].reshape(1)
        return SelfSupDataSample(
            metainfo=self.metainfo[index], sample_idx=InstanceData(value=value)
        )

    def pin_memory(self) -> 'SampleBatch':
        """Pin the ids; called by a loader with ``pin_memory=True``."""
        self.ids = self.ids.pin_memory()
        return self


def sample_ids(
    data_samples: SampleBatch | Sequence[SelfSupDataSample],
    device: torch.device | None = None,
) -> Tensor:
    """Collect ``sample_idx`` of a batch.

    Args:
        data_samples (SampleBatch | Sequence[SelfSupDataSample]): The batch.
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
    ids = torch.cat([sample.sample_idx.value for sample in data_samples]).long()
    return ids.to(device, non_blocking=True)


def collate(batch: Sequence[dict], _scope_: str | None = None) -> dict:
    """Stack the items of a loader into a batch.

    As MMEngine's ``default_collate``, with a :class:`SampleBatch` where the data samples hold only
    ``sample_idx``.

    Args:
        batch (Sequence[dict]): Items of the data set.
        _scope_ (str, optional): Ignored. MMEngine 0.10.7 passes it to the collate function of an
            inherited config, and its own function does not accept it.

    Returns:
        dict: The batch.
    """
    samples = [item.get('data_samples') for item in batch]
    if not all(type(one) is SelfSupDataSample and one.keys() == ['sample_idx'] for one in samples):
        return default_collate(batch)
    rest = [{key: item[key] for key in item if key != 'data_samples'} for item in batch]
    return dict(default_collate(rest), data_samples=SampleBatch(samples))
