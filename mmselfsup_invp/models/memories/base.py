import logging
from collections.abc import Iterator

import torch
from mmengine import dist
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...memory import NonFiniteMonitor, RowState


class Memory(BaseModule):
    """Base of the registered memories: what a training run keeps about the images.

    A memory holds state modules of :mod:`mmselfsup_invp.memory`, which it sizes together, and
    writes the batches of all processes into them, so that their state is the same on every rank, or
    split over the ranks. An algorithm calls :meth:`stage` in its forward pass, a hook
    :meth:`commit` after the optimiser step: backward still reads the rows. A subclass implements
    :meth:`write`.

    In a checkpoint the buffers of the modules carry the name of the memory, ``memory.bank`` and not
    ``memory.features.bank``, so that the format does not depend on how the state is divided.

    Args:
        init_cfg (dict, optional): Not used. Defaults to None.

    Attributes:
        holds_images (bool): Whether row i belongs to image i of the data set.
        hook (str): Entry of ``default_hooks`` that fits and commits the memory, for messages.
        refresh (bool): Whether :meth:`commit` also writes what is derived from the features of the
            batch, neighbours or labels; set by the hook.
        monitor (NonFiniteMonitor): Records features with NaN or Inf.
        staged (tuple[Tensor, ...] | None): The batch that waits for :meth:`commit`.
    """

    holds_images = False
    hook = ''
    refresh = True

    def __init__(self, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.monitor = NonFiniteMonitor()
        self.staged: tuple[Tensor, ...] | None = None
        self._register_state_dict_hook(_use_saved_names)

    def parts(self) -> Iterator[tuple[str, RowState]]:
        """Names and modules of the state, all of one length."""
        return ((name, part) for name, part in self.named_children() if isinstance(part, RowState))

    def __len__(self) -> int:
        return len(next(self.parts())[1])

    def resize(self, length: int) -> None:
        """Replace the state by the initial one of ``length`` rows."""
        for _, part in self.parts():
            part.resize(length)

    def fit(self, num_images: int) -> None:
        """Take the length from the data set.

        A memory with a row for each image must have as many; a queue is shortened to the data set,
        for in a longer one two features of the same image would be each other's negatives.

        Args:
            num_images (int): Images of the data set.

        Raises:
            ValueError: If the memory has a row for each image and another length already.
        """
        if not len(self):
            self.resize(num_images)
        elif self.holds_images and len(self) != num_images:
            raise ValueError(
                f'The {type(self).__name__} has {len(self)} rows, the data set {num_images} '
                'images. Leave out its length: it is then taken from the data set.'
            )
        elif len(self) > num_images:
            _warn(
                f'The queue of {len(self)} is lowered to the {num_images} images of the data set.'
            )
            self.resize(num_images)

    def require_rows(self) -> None:
        """Raise ``RuntimeError`` if the memory is still empty."""
        if not len(self):
            raise RuntimeError(
                f'The {type(self).__name__} has no rows yet. Add the hook that sizes it from the '
                f'data set to the config: default_hooks = dict({self.hook}).'
            )

    def require_whole_state(self) -> None:
        """Raise ``RuntimeError`` if ``state_dict()`` holds a part of the rows only."""
        if any(part.split and part.collected is None for _, part in self.parts()):
            raise RuntimeError(
                f'The rows of the {type(self).__name__} are split over the processes, and a '
                "checkpoint would hold a part of them. Save by mmselfsup_invp's CheckpointHook, or "
                'within mmselfsup_invp.memory.whole_state(model), which all processes enter.'
            )

    def stage(self, anchor: Tensor, feature: Tensor, *others: Tensor) -> None:
        """Keep a batch until :meth:`commit`; in evaluation mode nothing is kept.

        Args:
            anchor (Tensor): int64, shape ``(B,)``, rows of the images: their ``sample_idx``, or the
                slots of a queue.
            feature (Tensor): Float, unit rows, shape ``(B, D)``.
            *others (Tensor): What else :meth:`write` of the memory takes, first dimension B.

        Raises:
            RuntimeError: If the batch before was not committed.
        """
        if not self.training:
            return
        if self.staged is not None:
            raise RuntimeError(
                f'The {type(self).__name__} was not updated after the last iteration. Add its '
                f'hook to the config: default_hooks = dict({self.hook}).'
            )
        self.staged = (anchor, feature.detach(), *others)

    @torch.no_grad()
    def commit(self) -> None:
        """Write the staged batches of all ranks; without one nothing happens."""
        if self.staged is not None:
            batch = gather_ranks(*self.staged)
            self.staged = None
            self.write(*batch)

    def write(self, anchor: Tensor, feature: Tensor, *others: Tensor) -> None:
        """Write a batch, which is the same on all ranks; see :meth:`stage` and :meth:`commit`."""
        raise NotImplementedError

    def end_epoch(self) -> None:
        """Let the updates take effect that wait for the end of the epoch; here there are none."""

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        for saved, own, buffer in self._saved_buffers(prefix):
            if saved in state_dict:
                state_dict[own] = state_dict.pop(saved)
            if own in state_dict and state_dict[own].dtype != buffer.dtype:
                _warn(
                    f'{saved} is {state_dict[own].dtype} in the checkpoint and is converted to '
                    f'{buffer.dtype}, the dtype of {type(self).__name__} in the config.'
                )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _saved_buffers(self, prefix: str) -> Iterator[tuple[str, str, Tensor]]:
        """Name in a checkpoint, name in the module, and the buffer."""
        for name, part in self.parts():
            for key, buffer in part.named_buffers():
                yield f'{prefix}{key}', f'{prefix}{name}.{key}', buffer


def _use_saved_names(memory: Memory, state_dict: dict, prefix: str, *_) -> None:
    for saved, own, _ in memory._saved_buffers(prefix):
        if own in state_dict:
            state_dict[saved] = state_dict.pop(own)


def memories_of(model: nn.Module) -> list[Memory]:
    """All memories inside a model.

    Example:
        >>> from .self_label_memory import SelfLabelMemory
        >>> model = nn.ModuleDict(dict(memory=SelfLabelMemory(3, 1), neck=nn.Identity()))
        >>> memories_of(model) == [model['memory']]
        True
    """
    return [module for module in model.modules() if isinstance(module, Memory)]


def gather_ranks(*parts: Tensor) -> list[Tensor]:
    """Concatenate each tensor over the ranks, in their order; without a group, the same tensors."""
    return [torch.cat(dist.all_gather(part.contiguous())) for part in parts]


def _warn(message: str) -> None:
    print_log(message, logger='current', level=logging.WARNING)
