import torch
from mmengine import dist
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...memory import NonFiniteMonitor


class SizedMemory(BaseModule):
    """State that has a row for every image of the data set, or for every slot of a queue.

    All of it is in registered buffers, the same on every rank, saved and restored with the model.
    A memory without a length is empty until :meth:`fit` sizes it (its hook does, from the data
    set) or a checkpoint is loaded into it. It also watches the features of a run for NaN and Inf.

    Attributes:
        row_buffers (tuple[str, ...]): Names of the buffers whose first dimension are the rows.
    """

    row_buffers: tuple[str, ...] = ()

    # Whether row i is image i of the data set.
    holds_images = False

    def __init__(self, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.monitor = NonFiniteMonitor()

    faults = property(lambda self: self.monitor.sample)
    fault_iteration = property(lambda self: self.monitor.found_at)
    iteration = property(
        lambda self: self.monitor.iteration,
        lambda self, value: setattr(self.monitor, 'iteration', value),
    )

    def commit(self, refresh: bool = True) -> None:
        """Nothing is staged."""

    def end_epoch(self) -> None:
        """Nothing changes with the epoch."""

    def __len__(self) -> int:
        return len(getattr(self, self.row_buffers[0]))

    def fit(self, num_images: int) -> None:
        """Take the length of the data set.

        Raises:
            ValueError: If the memory has another length already.
        """
        if not len(self):
            self.resize(num_images)
        elif len(self) != num_images:
            raise ValueError(
                f'The {type(self).__name__} has {len(self)} rows, the data set {num_images} '
                'images. Leave out its length: it is then taken from the data set.'
            )

    def resize(self, length: int) -> None:
        """Give the memory ``length`` new rows."""
        raise NotImplementedError

    def keep_finite(self, sample: Tensor, feature: Tensor) -> Tensor:
        """Tell which features are finite, ``(B,)`` bool, and remember the first that are not.

        Nothing is raised here, for a look at the values would make the device wait in every
        step: such rows are left out, and the hook reads :attr:`faults` now and then.
        """
        return self.monitor(sample, feature)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        """Take the size of a checkpoint while empty; refuse another size afterwards."""
        rows = {name: state_dict.get(prefix + name) for name in self.row_buffers}
        for name, buffer in self.named_buffers(recurse=False):
            saved = state_dict.get(prefix + name)
            # An empty memory takes any number of rows, but nothing else.
            free = 1 if name in rows and not len(self) else 0
            if saved is not None and saved.shape[free:] != buffer.shape[free:]:
                raise ValueError(
                    f'The checkpoint holds {prefix}{name} of shape {tuple(saved.shape)}, this run '
                    f'has {tuple(buffer.shape)}: it was trained on another data set or with other '
                    'sizes in the config. Resume with the same data and memory settings; to start '
                    'from its network alone, give it to the backbone as init_cfg=dict(type='
                    "'Pretrained', checkpoint=..., prefix='backbone.')."
                )
        if not len(self):
            for name, saved in rows.items():
                if saved is not None:
                    setattr(self, name, getattr(self, name).new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def gather_ranks(*parts: Tensor) -> list[Tensor]:
    """Concatenate each tensor over the ranks, in rank order; the tensors themselves without any."""
    return [torch.cat(dist.all_gather(part.contiguous())) for part in parts]


def first_of_equal(sample: Tensor) -> Tensor:
    """For each entry the position of the first with the same id, ``(B,)`` int64.

    Samplers pad the last batch by repeating samples. Writing the first one's values for all of
    them leaves no doubt about which one a scatter keeps, on any device.
    """
    return (sample[:, None] == sample[None, :]).to(torch.uint8).argmax(dim=1)


def memories_of(model: nn.Module) -> list[SizedMemory]:
    """Every memory inside a model."""
    return [part for part in model.modules() if isinstance(part, SizedMemory)]
