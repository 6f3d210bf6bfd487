"""What a page is made of; `report.html` says how each block looks."""

from dataclasses import dataclass, field
from typing import ClassVar


class Absent(Exception):
    """A section cannot be made; the message says why, in one sentence."""


@dataclass(frozen=True)
class Paragraph:
    """Plain text."""

    kind: ClassVar[str] = 'paragraph'
    text: str


@dataclass(frozen=True)
class Chart:
    """A picture of numbers: a data URI, in words what it shows, and its width in CSS pixels."""

    kind: ClassVar[str] = 'chart'
    uri: str
    alt: str
    width: int


@dataclass(frozen=True)
class Grid:
    """Charts beside one another."""

    kind: ClassVar[str] = 'grid'
    charts: list[Chart]


@dataclass(frozen=True)
class Table:
    """Rows of text below a header; an empty header is left out."""

    kind: ClassVar[str] = 'table'
    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Picture:
    """An image, what stands below it, and its mark: ``'same'`` or ``'other'`` class, or none."""

    uri: str
    alt: str
    caption: str = ''
    mark: str = ''


@dataclass(frozen=True)
class Strip:
    """A row of images below a label, and a note about them."""

    label: str
    pictures: list[Picture]
    note: str = ''


@dataclass(frozen=True)
class Gallery:
    """Strips below one another, in groups that belong to one image."""

    kind: ClassVar[str] = 'gallery'
    groups: list[list[Strip]]


@dataclass(frozen=True)
class Code:
    """Text as it is, folded."""

    kind: ClassVar[str] = 'code'
    title: str
    text: str


Block = Paragraph | Chart | Grid | Table | Gallery | Code


@dataclass(frozen=True)
class Section:
    """A heading, by which it is linked too, and its blocks."""

    name: str
    title: str
    blocks: list[Block] = field(default_factory=list)
