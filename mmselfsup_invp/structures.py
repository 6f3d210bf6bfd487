"""The data samples of a batch as one object, which is cheap to load and to send to a device."""

from collections.abc import Iterable, Sequence

import torch
from mmengine.dataset import default_collate
from mmengine.structures import InstanceData
from mmselfsup.structures import SelfSupDataSample
from torch import Tensor


class SampleBatch:
    """Data samples that carry nothing but ``sample_idx`` and what is said of their image.

    In place of a list of ``SelfSupDataSample``, each with a tensor of its own: a worker would hand
    them over one by one through shared memory, and the data preprocessor copy them one by one to
    the device. Here the ids are one tensor, which stays on the host until somebody needs it
    elsewhere (:func:`sample_ids`). Items and iteration give the samples.

    Args:
        samples (Iterable[SelfSupDataSample]): With ``sample_idx``.

    Attributes:
        ids (Tensor): int64, shape ``(B,)``.

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
        """One sample; an ``IndexError`` beyond the last ends an iteration."""
        value = self.ids[index].reshape(1)
        return SelfSupDataSample(
            metainfo=self.metainfo[index], sample_idx=InstanceData(value=value)
        )

    def pin_memory(self) -> 'SampleBatch':
        """Pin the ids; a loader calls it with ``pin_memory=True``."""
        self.ids = self.ids.pin_memory()
        return self


def sample_ids(
    data_samples: SampleBatch | Sequence[SelfSupDataSample],
    device: torch.device | None = None,
) -> Tensor:
    """Collect ``sample_idx`` of a batch, int64, shape ``(B,)``.

    Args:
        data_samples (SampleBatch | Sequence[SelfSupDataSample]): The batch.
        device (torch.device, optional): Where they are needed; they are sent there without
            waiting. Defaults to None, where they are.

    Raises:
        ValueError: If the samples carry none.
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
    """Stack the samples of a loader into a batch.

    As MMEngine's ``default_collate``, which refuses the scope that MMEngine (0.10.7) leaves among
    the arguments of a collate function from an inherited config, and with a :class:`SampleBatch`
    where the data samples hold only ``sample_idx``.
    """
    samples = [item.get('data_samples') for item in batch]
    if not all(type(one) is SelfSupDataSample and one.keys() == ['sample_idx'] for one in samples):
        return default_collate(batch)
    rest = [{key: item[key] for key in item if key != 'data_samples'} for item in batch]
    return dict(default_collate(rest), data_samples=SampleBatch(samples))
