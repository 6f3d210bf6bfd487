import torch
from torch import Tensor, nn


class RowState(nn.Module):
    """Base of the state modules: buffers with one row for each image or queue slot.

    A module of length 0 takes its length from :meth:`resize` or from the first checkpoint that is
    loaded into it. Any other difference in shape between a checkpoint and the module is an error.
    """

    def __init__(self) -> None:
        super().__init__()
        self._row_names: list[str] = []

    def register_rows(self, name: str, rows: Tensor, persistent: bool = True) -> None:
        """Register a buffer whose first dimension is the length of the module."""
        self.register_buffer(name, rows, persistent)
        self._row_names.append(name)

    def __len__(self) -> int:
        return len(getattr(self, self._row_names[0]))

    @property
    def row_bytes(self) -> int:
        """Bytes of one row in all buffers."""
        rows = (getattr(self, name) for name in self._row_names)
        return sum(one.element_size() * one.shape[1:].numel() for one in rows)

    def resize(self, length: int) -> None:
        """Replace all rows by ``length`` initial ones."""
        raise NotImplementedError

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        saved = {
            name: state_dict[prefix + name] for name in self._buffers if prefix + name in state_dict
        }
        for name, value in saved.items():
            self._require_shape(prefix, name, value)
        lengths = [len(saved[name]) for name in self._row_names if name in saved]
        if lengths and not len(self):
            self.resize(lengths[0])
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _require_shape(self, prefix: str, name: str, saved: Tensor) -> None:
        own = getattr(self, name)
        # Without rows, the module accepts any number of them.
        start = 1 if name in self._row_names and not len(self) else 0
        if saved.shape[start:] != own.shape[start:]:
            raise ValueError(
                f'The checkpoint holds {prefix}{name} of shape {tuple(saved.shape)}, this run has '
                f'{tuple(own.shape)}: it was trained on another data set or with other sizes in '
                'the config. Resume with the same data and memory settings. To start from its '
                'network alone, load only that: under MMEngine with init_cfg=dict('
                "type='Pretrained', checkpoint=..., prefix='backbone.') in the backbone."
            )


def first_occurrence(index: Tensor) -> Tensor:
    """Position of the first entry that is equal to each entry.

    Samplers pad the last batch by repeating samples. When the values of the first occurrence are
    written for all, the result of a scatter does not depend on its order, on any device.

    Args:
        index (Tensor): int64, shape ``(B,)``.

    Returns:
        Tensor: int64, shape ``(B,)``.

    Example:
        >>> first_occurrence(torch.tensor([7, 2, 7]))
        tensor([0, 1, 0])
    """
    return (index[:, None] == index[None, :]).to(torch.uint8).argmax(dim=1)
