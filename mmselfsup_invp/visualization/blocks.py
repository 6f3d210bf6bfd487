"""The elements of a page; the template `assets/report.html` renders them."""

from dataclasses import dataclass, field
from typing import ClassVar


class Unavailable(Exception):
    """A section does not apply to the run; the message is one sentence that says why."""


class ImagesUnavailable(Unavailable):
    """A section cannot be made because the images of the run cannot be read."""


@dataclass(frozen=True)
class Paragraph:
    """Plain text."""

    kind: ClassVar[str] = 'paragraph'
    text: str


@dataclass(frozen=True)
class Verdict:
    """The verdict on a run: a title, the reason, measured quantities, and options to change.

    ``state``, ``'good'``, ``'bad'`` or ``'open'``, is the colour of the card.
    """

    kind: ClassVar[str] = 'verdict'
    state: str
    title: str
    text: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    advice: str = ''


@dataclass(frozen=True)
class ImageMap:
    """An interactive map of images: what the script of the page reads, see
    :func:`~.image_map.map_data`, and all tiles in one image, as a data URI.
    """

    kind: ClassVar[str] = 'map'
    data: dict
    sheet: str
    alt: str


@dataclass(frozen=True)
class Chart:
    """A chart: an image as a data URI, its text alternative and its width in CSS pixels."""

    kind: ClassVar[str] = 'chart'
    uri: str
    alt: str
    width: int


@dataclass(frozen=True)
class Grid:
    """Charts side by side."""

    kind: ClassVar[str] = 'grid'
    charts: list[Chart]


@dataclass(frozen=True)
class Table:
    """Rows of text below a header; an empty header is not rendered."""

    kind: ClassVar[str] = 'table'
    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Picture:
    """A thumbnail as a data URI, with the file name, a text alternative and a caption.

    ``mark`` is ``'same'`` or ``'other'`` class, ``''`` if unknown.
    """

    uri: str
    name: str
    alt: str
    caption: str = ''
    mark: str = ''


@dataclass(frozen=True)
class Strip:
    """A row of pictures with a label and a note."""

    label: str
    pictures: list[Picture]
    note: str = ''


@dataclass(frozen=True)
class Gallery:
    """Groups of strips; a group belongs to one image."""

    kind: ClassVar[str] = 'gallery'
    groups: list[list[Strip]]


@dataclass(frozen=True)
class Code:
    """Preformatted text, collapsed below its title."""

    kind: ClassVar[str] = 'code'
    title: str
    text: str


Block = Paragraph | Verdict | ImageMap | Chart | Grid | Table | Gallery | Code


@dataclass(frozen=True)
class Section:
    """A heading and its blocks; ``name`` is the anchor of links to it."""

    name: str
    title: str
    blocks: list[Block] = field(default_factory=list)
