from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..ops.search import BankRows
from .sharding import ShardedRows, Split


class RowState(nn.Module):
    """Base of the state modules: buffers with one row for each image or queue slot.

    A module of length 0 takes its length from :meth:`resize` or from the first checkpoint that is
    loaded into it. Any other difference in shape between a checkpoint and the module is an error.

    Args:
        shard (bool): Whether the rows are split over the processes. Then the buffers hold those of
            this process, :meth:`view` gives access to all, and ``state_dict()`` holds them only
            within :func:`~mmselfsup_invp.memory.whole_state`. Defaults to False.

    Attributes:
        offload (bool): Whether the rows stay in host memory when the module moves to a device.
        split (Split | None): Which rows this process holds; None: all.
        collected (dict[str, Tensor] | None): All rows, within
            :func:`~mmselfsup_invp.memory.whole_state` on the first process.
    """

    offload = False

    def __init__(self, shard: bool = False) -> None:
        super().__init__()
        self._row_names: list[str] = []
        self.shard = shard
        self.split: Split | None = None
        self.collected: dict[str, Tensor] | None = None

    def register_rows(self, name: str, rows: Tensor, persistent: bool = True) -> None:
        """Register a buffer whose first dimension is the length of the module."""
        self.register_buffer(name, rows, persistent)
        self._row_names.append(name)

    def __len__(self) -> int:
        return self.split.length if self.split else len(getattr(self, self._row_names[0]))

    @property
    def device(self) -> torch.device:
        """Device of the batches, which that of the rows may differ from with ``offload``."""
        return getattr(self, self._row_names[0]).device

    @property
    def row_bytes(self) -> int:
        """Bytes of one row in all buffers."""
        rows = (getattr(self, name) for name in self._row_names)
        return sum(one.element_size() * one.shape[1:].numel() for one in rows)

    def resize(self, length: int) -> None:
        """Replace all rows by ``length`` initial ones."""
        raise NotImplementedError

    def split_rows(self, length: int) -> slice:
        """Split ``length`` rows anew, with ``shard``; return those of this process."""
        self.split = Split.over_group(length) if self.shard and length else None
        return slice(self.split.start, self.split.stop) if self.split else slice(0, length)

    def view(self, name: str) -> Tensor | BankRows:
        """All rows of a buffer, for the functions of :mod:`mmselfsup_invp.ops`."""
        rows = self.local_view(name)
        return ShardedRows(rows, self.split) if self.split else rows

    def local_view(self, name: str) -> Tensor | BankRows:
        """The rows of this process, likewise."""
        return getattr(self, name)

    def whole(self, name: str) -> Tensor:
        """All rows of a buffer as one tensor; of rows that are split, on the CPU."""
        rows = getattr(self, name)
        return self.split.collect(rows, self.device) if self.split else rows

    def collect(self) -> None:
        """Collect all rows on the first process, for ``state_dict()``."""
        if self.split:
            first = self.split.rank == 0
            self.collected = {
                name: self.split.collect(getattr(self, name), self.device, keep=first)
                for name in self._saved()
            }

    def place(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Which rows of this process a batch writes.

        An entry that is equal to an earlier one has the values of that one, and so has an entry of
        another process those of the first entry of this one: no order of writing then matters.

        Args:
            index (Tensor): int64, shape ``(B,)``, rows.

        Returns:
            tuple[Tensor, Tensor, Tensor]: Rows in the buffers, int64; position of the entry whose
            values they take, int64; and whether they may be written, bool: all ``(B,)``.
        """
        if self.split is None:
            return index, first_occurrence(index), torch.ones_like(index, dtype=torch.bool)
        own = self.split.local(index)[1]
        every = torch.arange(len(index), device=index.device)
        position = torch.where(own, every, own.to(torch.uint8).argmax())
        index = index[position]
        row, own = self.split.local(index)
        return row, position[first_occurrence(index)], own

    def _saved(self) -> list[str]:
        return [name for name in self._row_names if name not in self._non_persistent_buffers_set]

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.split:
            # Never the rows of this process alone: MMEngine's runner overwrites, at the start, what
            # is here by that of the first process.
            rows = self.collected or {name: getattr(self, name)[:0] for name in self._saved()}
            destination.update({prefix + name: value for name, value in rows.items()})

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        saved = {
            name: state_dict[prefix + name] for name in self._buffers if prefix + name in state_dict
        }
        for name, value in saved.items():
            self._require_shape(prefix, name, value)
        lengths = [len(saved[name]) for name in self._row_names if name in saved]
        if lengths and not len(self):
            self.resize(lengths[0])
        if self.split:
            for name in set(self._row_names) & saved.keys():
                state_dict[prefix + name] = saved[name][self.split.start : self.split.stop]
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _require_shape(self, prefix: str, name: str, saved: Tensor) -> None:
        own = getattr(self, name)
        shape = (len(self), *own.shape[1:]) if name in self._row_names else own.shape
        # Without rows, the module accepts any number of them.
        start = 1 if name in self._row_names and not len(self) else 0
        if saved.shape[start:] != shape[start:]:
            raise ValueError(
                f'The checkpoint holds {prefix}{name} of shape {tuple(saved.shape)}, this run has '
                f'{tuple(shape)}: it was trained on another data set or with other sizes in '
                'the config. Resume with the same data and memory settings. To start from its '
                'network alone, load only that: under MMEngine with init_cfg=dict('
                "type='Pretrained', checkpoint=..., prefix='backbone.') in the backbone."
            )


@contextmanager
def whole_state(model: nn.Module) -> Iterator[None]:
    """Let ``state_dict()`` of the first process hold all rows that are split over processes.

    Elsewhere, and on the other processes, it holds none of them. Loading takes all rows, and splits
    them over any number of processes. Every process enters the context; the first one then holds
    all rows in host memory, ``N * D * bytes``.

    Args:
        model (nn.Module): With state modules (:class:`~mmselfsup_invp.memory.RowState`) inside.

    Example:
        >>> from mmselfsup_invp.memory import FeatureBank
        >>> bank = FeatureBank(feat_dim=2, length=3, shard=True)
        >>> with whole_state(bank):
        ...     bank.state_dict()['bank'].shape
        torch.Size([3, 2])
    """
    states = [one for one in model.modules() if isinstance(one, RowState) and one.split]
    try:
        for state in states:
            state.collect()
        yield
    finally:
        for state in states:
            state.collected = None


def own_buffers(model: nn.Module) -> list[str]:
    """Names of the buffers in a model whose rows are those of one process, or in host memory."""
    return [
        f'{prefix}.{name}'
        for prefix, module in model.named_modules()
        if isinstance(module, RowState) and (module.shard or module.offload)
        for name in module._row_names
    ]


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
    ordered, order = index.sort(stable=True)
    position = torch.arange(len(index), device=index.device)
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[1:] = ordered[1:] != ordered[:-1]
    first = position.masked_fill(~starts, 0).cummax(dim=0).values
    return torch.empty_like(order).scatter_(0, order, order[first])
