"""Description of a data set: its downloads, its reader and its lists."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

#: Path of an image relative to its list's prefix, and its label, if the list has labels.
Sample = tuple[str, int | None]

CLASSES = 'meta/classes.txt'
ARCHIVES = ('.tar', '.tar.gz', '.tgz', '.zip')


@dataclass(frozen=True)
class Download:
    """A file to download into the folder of a data set."""

    file: str
    url: str  # Of the file, or of a page that links to it.
    # Glob patterns of what it unpacks to; the file is not needed if one of them matches. Default:
    # the file itself. An archive that is listed here is read without unpacking.
    provides: tuple[str, ...] = ()
    md5: str = ''  # Published checksum.
    size: str = ''  # For messages, such as '460 MB'.
    target: str = '.'  # Folder to unpack into.
    strip: str = '.'  # Folder within the archive whose content is moved to that of the data set.
    nested: bool = False  # Whether the tar archives in this tar archive become folders.

    @property
    def direct(self) -> bool:
        """Whether --download fetches it: from its own address, and only with a checksum."""
        return self.url.endswith(self.file) and bool(self.md5)

    @property
    def is_archive(self) -> bool:
        """Whether it is to be unpacked."""
        return self.file.endswith(ARCHIVES) and self.file not in self.provides

    def is_needed(self, root: Path) -> bool:
        """Whether its content is missing or incomplete."""
        matches = (path for glob in self.provides or [self.file] for path in root.glob(glob))
        return self.staging(root).exists() or not any(matches)

    def staging(self, root: Path) -> Path:
        """Folder it is unpacked in; if it exists, unpacking was interrupted."""
        return root / f'.{self.file}.unfinished'


@dataclass(frozen=True)
class Contents:
    """What a reader found."""

    splits: dict[str, list[Sample]]  # Images of each split, in the order of its list.
    classes: list[str] = field(default_factory=list)  # Names in the order of the labels.
    selection: dict[str, object] = field(default_factory=dict)  # How images were drawn.


@dataclass(frozen=True)
class ImageList:
    """A list for the configs: one line ``PATH LABEL`` or ``PATH`` for each image."""

    file: str  # Relative to the folder of the data set.
    splits: tuple[str, ...]  # Splits that the list joins.
    prefix: str = '.'  # Folder that the paths start from, relative to that of the data set.


@dataclass(frozen=True)
class DataSet:
    """A data set that ``tools/prepare_data.py`` prepares."""

    name: str  # On the command line.
    title: str  # In papers.
    root: str  # Default folder.
    read: Callable[[Path], Contents]
    counts: Mapping[str, int] = field(default_factory=dict)  # Expected images of a split, if known.
    lists: tuple[ImageList, ...] = (
        ImageList('meta/train.txt', ('train',)),
        ImageList('meta/test.txt', ('test',)),
    )
    has_classes: bool = True  # Whether meta/classes.txt is written.
    downloads: tuple[Download, ...] = ()  # In the order of unpacking.
    note: str = ''  # Hint for messages about missing or incomplete data.
    selection_file: str = ''  # JSON file that records how images were drawn.
    requested: Mapping[str, object] = field(default_factory=dict)  # Selection the user asked for.

    @property
    def files(self) -> tuple[str, ...]:
        """All files that are written, relative to the folder; the lists come last."""
        return (*([CLASSES] if self.has_classes else []), *(item.file for item in self.lists))

    def missing_files(self, root: Path) -> list[str]:
        """The files that are not written yet; a data set without any is complete."""
        return [file for file in self.files if not (root / file).is_file()]

    def missing_downloads(self, root: Path) -> list[Download]:
        """The files that are still to be downloaded."""
        inner = {glob for download in self.downloads for glob in download.provides}
        return [
            download
            for download in self.downloads
            if download.file not in inner - set(download.provides)  # Comes inside of another one.
            and not (root / download.file).is_file()
            and download.is_needed(root)
        ]

    def command(self, root: Path) -> str:
        """The command that prepares the data set in this folder."""
        option = '' if root == Path(self.root) else f' --root {root}'
        return f'python tools/prepare_data.py {self.name}{option}'
