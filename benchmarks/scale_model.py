"""Time, memory and traffic of a step of InvP with a bank on many devices, as formulas."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """A step: W devices, B images on each, a bank of N rows, M negatives, k neighbours."""

    num: int
    devices: int = 1
    batch: int = 128
    dim: int = 128
    bytes: int = 2
    m: int = 4096
    k: int = 4
    hops: int = 3
    parameters: int = 0

    @property
    def positives(self) -> int:
        """L, the most positives of an image."""
        return sum(self.k**hop for hop in range(1, self.hops + 1))

    @property
    def rows(self) -> int:
        """Rows of the device that has most, if they are split."""
        return -(-self.num // self.devices)


@dataclass(frozen=True)
class Machine:
    """What a device does in a second; memory in bytes.

    Attributes:
        products (float): Multiply-adds of a search.
        merged (float): Candidates of which the nearest are selected.
        link (float): Bytes that it sends to other devices.
        latency (float): Seconds that a collective takes at least.
        bus (float): Bytes that it reads from host memory.
        memory (float): Its memory for the bank.
        host_memory (float): Host memory for its part of the bank.
        network (float): Seconds of the network, forward and backward, in a step.
    """

    products: float
    merged: float
    link: float
    latency: float
    bus: float
    memory: float
    host_memory: float
    network: float


class Layout:
    """Where the bank is: a copy on each device, split, or split and in host memory."""

    def __init__(self, name: str, *, split: bool, offload: bool) -> None:
        self.name = name
        self.split = split
        self.offload = offload

    def bank_bytes(self, s: Sizes) -> int:
        """Bank of one device."""
        return (s.rows if self.split else s.num) * s.dim * s.bytes

    def memory(self, s: Sizes) -> int:
        """Bytes on a device: bank and graph, and the candidates of a search."""
        graph = (s.rows if self.split else s.num) * s.k * 8
        candidates = 24 * s.batch * (s.m + 1) * (s.devices if self.split else 1)
        return graph + candidates + (0 if self.offload else self.bank_bytes(s))

    def fits(self, s: Sizes, machine: Machine) -> bool:
        """Whether the memories of a device are large enough."""
        host = self.bank_bytes(s) if self.offload else 0
        return self.memory(s) <= machine.memory and host <= machine.host_memory

    def traffic(self, s: Sizes) -> float:
        """Bytes that a device sends in a step."""
        reduced = 2 * (s.devices - 1) / s.devices
        batch = 4 * s.dim + 8 + 8 * s.k  # Query, row and neighbours, which all devices write.
        sent = split_bytes(s) if self.split else 0
        # The gradients, and the number of queries that have positives.
        return (s.devices - 1) * s.batch * (batch + sent) + reduced * (4 * s.parameters + 4)

    def seconds(self, s: Sizes, machine: Machine) -> dict[str, float]:
        """Time of the parts of a step."""
        several = s.devices > 1
        collectives = (22 + 2 * s.hops if self.split else 5) if several else 0
        return dict(
            network=machine.network,
            # W * B queries in N / W rows, or B queries in N rows.
            search=s.batch * s.num * s.dim / machine.products,
            merge=s.batch * (s.m + 1) * s.devices / machine.merged if self.split else 0.0,
            link=self.traffic(s) / machine.link + collectives * machine.latency,
            bus=self.bank_bytes(s) / machine.bus if self.offload else 0.0,
        )


def split_bytes(s: Sizes) -> int:
    """Bytes that a device sends to each other one for a query, if the rows are split."""
    number = 4 if s.num <= 2**31 else 8
    search = 4 * s.dim + (4 + number) * (s.m + 1)
    walk = 8 * ((1 - s.k**s.hops) // (1 - s.k) if s.k > 1 else s.hops) + 8 * s.positives
    # The own row and the positives, then the gradients of both and of the negatives.
    forward = 2 * 4 * s.dim + 12 * (1 + s.positives)
    backward = 3 * 4 * s.dim + 12 * (1 + s.positives + s.m + 1)
    return search + walk + forward + backward


LAYOUTS = (
    Layout('copy on each', split=False, offload=False),
    Layout('shard', split=True, offload=False),
    Layout('shard, offload', split=True, offload=True),
)
# What takes longest beside the network, and the options that change it.
REMEDIES = dict(
    network='-',
    search='PropagationQueue: its length does not grow with the images',
    merge='a lower num_background, smaller batches',
    link='a lower num_background, smaller batches',
    bus='more devices, so that the bank fits without offload',
)


def choose(s: Sizes, machine: Machine) -> Layout | None:
    """The first layout that fits."""
    return next((layout for layout in LAYOUTS if layout.fits(s, machine)), None)
