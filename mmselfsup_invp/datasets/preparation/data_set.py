"""What there is to know of a data set: where it comes from, what it holds, how it is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

#: Path of an image relative to its split's prefix, and its label, if it has one.
Sample = tuple[str, int | None]

CLASSES = 'meta/classes.txt'
ARCHIVES = ('.tar', '.tar.gz', '.tgz', '.zip')


@dataclass(frozen=True)
class Download:
    """A file to download into the folder of a data set.

    Args:
        file (str): Its name.
        page (str): The address to get it from, or of the page that leads to it.
        holds (tuple[str, ...]): What it unpacks to, as patterns relative to the folder. Where one
            of these is there, the file is not needed. A file that is named here itself is not
            unpacked. Default: the file.
        into (str): The folder in which it is unpacked. Default: the folder of the data set.
        strip (str): The folder inside the archive that stands for the folder of the data set.
        direct (bool): Whether ``page`` is the file, so that it can be fetched without a browser.
            Default: True.
        md5 (str | None): Checksum, where it is published.
        size (str): For people, such as ``'460 MB'``.
    """

    file: str
    page: str
    holds: tuple[str, ...] = ()
    into: str = '.'
    strip: str = '.'
    direct: bool = True
    md5: str | None = None
    size: str = ''

    @property
    def is_archive(self) -> bool:
        """Tell whether it is to be unpacked."""
        return self.file.endswith(ARCHIVES) and self.file not in self._places

    def is_needed(self, root: Path) -> bool:
        """Tell whether its content is not there, or only in part."""
        return self.unfinished(root).exists() or not any(
            True for pattern in self._places for _ in root.glob(pattern)
        )

    @property
    def _places(self) -> tuple[str, ...]:
        return self.holds or (self.file,)

    def unfinished(self, root: Path) -> Path:
        """The folder in which it is being unpacked; one that is there was cut short."""
        return root / f'.{self.file}.unfinished'


@dataclass(frozen=True)
class Contents:
    """What a reader found.

    Args:
        splits (dict[str, list[Sample]]): Images and labels of each split, in the order of the list.
        classes (list[str]): Names of the classes in the order of the labels; empty where no list
            of classes is wanted.
        facts (dict[str, object]): What there is to remember of how the images were chosen.
    """

    splits: dict[str, list[Sample]]
    classes: list[str] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageList:
    """A list that configs read: a line ``PATH LABEL`` or ``PATH`` for each image.

    Args:
        file (str): Its path relative to the folder of the data set.
        splits (tuple[str, ...]): The splits that it joins.
        prefix (str): What its paths are relative to, itself relative to the folder of the data
            set. Default: that folder.
    """

    file: str
    splits: tuple[str, ...]
    prefix: str = '.'


@dataclass(frozen=True)
class DataSet:
    """A data set of the evaluation.

    Args:
        name (str): The name that ``tools/prepare_data.py`` takes.
        title (str): Its name in the papers.
        root (str): Its folder, unless another is named.
        read (Callable): Finds the images and labels in the folder.
        counts (dict[str, int]): Images of each split; a split that is left out may have any number.
        lists (tuple[ImageList, ...]): The lists that are built. Default: ``meta/train.txt`` and
            ``meta/test.txt``.
        has_classes (bool): Whether ``meta/classes.txt`` is built, a name a line in the order of the
            labels. Default: True.
        downloads (tuple[Download, ...]): Files to get, in the order in which they are unpacked.
        note (str): What one should know before downloading.
        convert (Callable | None): Writes the images, where the archive does not hold any.
        facts_file (str | None): Where to write what there is to remember, as JSON.
        asked (dict[str, object]): The part of it that was asked for; lists that are there have to
            agree with it.
    """

    name: str
    title: str
    root: str
    read: Callable[[Path], Contents]
    counts: Mapping[str, int] = field(default_factory=dict)
    lists: tuple[ImageList, ...] = (
        ImageList('meta/train.txt', ('train',)),
        ImageList('meta/test.txt', ('test',)),
    )
    has_classes: bool = True
    downloads: tuple[Download, ...] = ()
    note: str = ''
    convert: Callable[[Path], object] | None = None
    facts_file: str | None = None
    asked: Mapping[str, object] = field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        """All that a config may read, relative to the folder; the lists are written last."""
        return (*([CLASSES] if self.has_classes else []), *(item.file for item in self.lists))

    def command(self, root: Path) -> str:
        """The command that prepares it."""
        elsewhere = '' if root == Path(self.root) else f' --root {root}'
        return f'python tools/prepare_data.py {self.name}{elsewhere}'
