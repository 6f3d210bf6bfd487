"""Memory that a run needs beside the activations of the network, computed from the model."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.model import BaseModel

from ..models.heads import BankMarginHead, InvPHead, SelfLabelHead, SoftInvPHead
from ..models.memories import Memory, memories_of
from ..ops.search import default_elements

FLOAT = 4
# Bytes that the step of a head takes for each pair of a query and a row of its background: indices,
# similarities, exponentials and their copies, measured with PyTorch's profiler.
STEP_BYTES = {'InvPHead': 24, 'SoftInvPHead': 48, 'BankMarginHead': 24}
# Names of the parts of the memories.
PARTS = {'features': 'bank', 'graph': 'graph', 'clusters': 'labels', 'assignment': 'labels'}
MIB, GIB = 2**20, 2**30
# Limit, use and statistics of a container by cgroup 2 and 1, and the field of the file cache, which
# is freed when memory is needed.
CGROUP = Path('/sys/fs/cgroup')
CGROUPS = (
    ('memory.max', 'memory.current', 'memory.stat', 'file'),
    (
        'memory/memory.limit_in_bytes',
        'memory/memory.usage_in_bytes',
        'memory/memory.stat',
        'total_cache',
    ),
)


@dataclass(frozen=True)
class MemoryEstimate:
    """Memory in bytes by part; see :func:`estimate_memory`.

    Example:
        >>> str(MemoryEstimate({'bank': 2**30, 'graph': 2**29}))
        'bank 1.0 GiB + graph 512.0 MiB = 1.5 GiB'
    """

    parts: dict[str, int]

    @property
    def total(self) -> int:
        """Sum of the parts."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        parts = ' + '.join(f'{name} {size(num)}' for name, num in self.parts.items())
        return f'{parts} = {size(self.total)}'

    def without(self, part: str) -> 'MemoryEstimate':
        """The other parts."""
        return MemoryEstimate({name: num for name, num in self.parts.items() if name != part})

    def require(self, available: int) -> None:
        """Raise ``ValueError`` with the options that need less if so much is not available."""
        if self.total > available:
            raise ValueError(
                f'The run needs {self} beside the activations, but {size(available)} are free. '
                f'Try, in this order: {", ".join(self.advice())}.'
            )

    def advice(self) -> Iterator[str]:
        """Options that reduce the largest parts."""
        for part in sorted(self.parts, key=self.parts.get, reverse=True):
            if part in ADVICE:
                yield ADVICE[part]


ADVICE = {
    'bank': "a bank of 16 bits (dtype='float16' in the memory)",
    'graph': 'fewer neighbours (num_neighbours in the memory)',
    'search': 'a smaller background (num_background or num_negatives in the head) or batch',
    'Sinkhorn': "storage='features' or 'host' in SelfLabelHook",
    'network': 'a smaller network (model.backbone.depth)',
}


def size(num: float) -> str:
    """Bytes in MiB or GiB."""
    return f'{num / GIB:.1f} GiB' if num >= GIB else f'{num / MIB:.1f} MiB'


def estimate_memory(
    model: BaseModel, num_images: int, batch_size: int, storage: str = 'log_prob'
) -> MemoryEstimate:
    """Estimate the memory of a run on each process, in bytes by part.

    - bank, graph, labels: rows times the bytes of a row, for every memory of the model; N rows of
      D float32 values and of k int64 neighbours take ``4 N D`` and ``8 N k``.
    - search: the similarities, indices and exponentials of a batch of B with M rows, ``24 B M``
      (``48 B M`` for ``SoftInvPHead``), and the block of similarities that is held at a time.
    - Sinkhorn: log-probabilities ``4 N K`` and features ``4 N D`` of all images on the model's
      device; the former with the ``storage`` ``'log_prob'`` only, neither with ``'host'``.
    - network: 12 bytes for a trained parameter (weight, gradient, momentum of SGD), 4 for others.

    Not included are the activations of the network. The memories of the model may be empty.
    """
    parts: dict[str, int] = {}
    for memory in memories_of(model):
        for name, part in memory.parts():
            name = PARTS.get(name, name)
            parts[name] = parts.get(name, 0) + rows_of(memory, num_images) * part.row_bytes
    if search := search_bytes(model, num_images, batch_size):
        parts['search'] = search
    head = getattr(model, 'head', None)
    if isinstance(head, SelfLabelHead) and storage != 'host':
        dim = head.classifiers.in_features
        classes = head.num_classes if storage == 'log_prob' else 0
        parts['Sinkhorn'] = FLOAT * num_images * (dim + classes)
    parameters = list(model.parameters())
    trained = sum(one.numel() for one in parameters if one.requires_grad)
    parts['network'] = FLOAT * (2 * trained + sum(one.numel() for one in parameters))
    return MemoryEstimate(parts)


def rows_of(memory: Memory, num_images: int) -> int:
    """Rows of a memory that is fitted to the data set."""
    return min(len(memory), num_images) if len(memory) else num_images


def search_bytes(model: BaseModel, num_images: int, batch_size: int) -> int:
    """Similarities that a step computes, with what is kept for its backward pass."""
    match getattr(model, 'head', None):
        case InvPHead(loss=loss):
            width, each = (loss.sampling.num_background or 0) + 1, STEP_BYTES['InvPHead']
        case SoftInvPHead() as head:
            width = max(head.num_background or 0, head.num_target, model.memory.num_neighbours) + 1
            each = STEP_BYTES['SoftInvPHead']
        case BankMarginHead() as head:
            width, each = head.num_negatives + 1, STEP_BYTES['BankMarginHead']
        case _:
            return 0
    elements = default_elements(next(model.parameters()).device)
    block = FLOAT * min(batch_size * num_images, elements)
    return block + each * batch_size * min(width, num_images)


def available_memory(device: torch.device | str) -> int:
    """Bytes that this process can still allocate, beside what it holds."""
    device = torch.device(device)
    if device.type == 'cuda':
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min(_free_bytes())


def _free_bytes() -> Iterator[int]:
    """Free memory of the machine, and of the container if it has a limit."""
    with suppress(OSError), open('/proc/meminfo') as lines:
        fields = dict(line.split(':') for line in lines)
        yield int(fields['MemAvailable'].split()[0]) * 1024
    for limit, used, statistics, cache in CGROUPS:
        with suppress(OSError, ValueError):  # ValueError: the limit is 'max'.
            most, now = (int((CGROUP / name).read_text()) for name in (limit, used))
            lines = (CGROUP / statistics).read_text().splitlines()
            yield most - now + int(dict(line.split() for line in lines)[cache])
