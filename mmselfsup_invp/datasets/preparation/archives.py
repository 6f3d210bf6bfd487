"""Download archives and unpack them safely."""

import errno
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PureWindowsPath
from typing import IO

from rich import progress
from torchvision.datasets.utils import download_url

from ..files import printable
from .data_set import Download

DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, RuntimeError)
# An archive may unpack to this many times its size (images hardly compress), and at least to 1 GB.
MAX_RATIO = 50
MIN_LIMIT = 10**9
BLOCK = 4096  # Bytes that the smallest file takes on a disk.


class UnsafeArchive(ValueError):
    """An archive has a member that would fill the disk or be written elsewhere."""


def fetch(download: Download, root: Path) -> None:
    """Download a file that is ``direct`` into a folder and check its MD5 sum."""
    partial = root / f'{download.file}.unfinished'
    try:
        download_url(download.url, str(root), partial.name, download.md5)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        raise OSError(
            f'The download of {download.file} failed ({error}). Get {download.url} by other means '
            f'and put it into {root} as {download.file}.'
        ) from error
    os.replace(partial, root / download.file)


def unpack(download: Download, root: Path) -> None:
    """Unpack an archive into the folder of its data set; the archive is kept.

    The members are written to a temporary folder first and then moved, so that interrupted
    unpacking is noticed and repeated.

    Raises:
        UnsafeArchive: If a member has an absolute path or ``..`` in its name, is a link or a
            special file, or if the members take far more space than the archive.
        ValueError: If the archive is damaged.
        OSError: If the disk has too little space.
    """
    archive, staging = root / download.file, download.staging(root)
    shutil.rmtree(staging, ignore_errors=True)
    guard = _Guard(archive, download.url)
    guard.check_space(archive.stat().st_size)
    staging.mkdir()
    try:
        with progress.open(archive, 'rb', description=archive.name) as file:
            if archive.suffix == '.zip':
                _extract_zip(file, staging / download.target, guard)
            else:
                _extract_tar(file, staging / download.target, guard, download.nested)
    except BaseException as error:
        shutil.rmtree(staging)
        damaged_gzip = isinstance(error, OSError) and error.errno is None
        if isinstance(error, DAMAGE) or damaged_gzip:
            raise ValueError(
                f'{archive} is damaged or incomplete ({error}). Delete it and get it again from '
                f'{download.url}.'
            ) from error
        raise
    source = staging / download.strip
    shutil.copytree(source, root, symlinks=True, copy_function=shutil.move, dirs_exist_ok=True)
    shutil.rmtree(staging)


class _Guard:
    """Checks the members of an archive before they are written."""

    def __init__(self, archive: Path, url: str) -> None:
        self.archive = archive
        self.url = url
        self.limit = max(MIN_LIMIT, MAX_RATIO * archive.stat().st_size)
        self.free = shutil.disk_usage(archive.parent).free
        self.total = 0

    def add(self, name: str, size: int) -> None:
        """Check a member's name, and the bytes that all members so far take."""
        self.check_name(name)
        self.total += size + BLOCK
        if self.total > self.limit:
            self.refuse(name, f'exceeds the limit of {self.limit / 1e9:,.1f} GB for this archive')
        self.check_space(self.total)

    def check_name(self, name: str) -> None:
        """Refuse a name that leads out of the folder."""
        path = PureWindowsPath(name)  # Knows drives and both kinds of slashes.
        if path.anchor or '..' in path.parts:
            self.refuse(name, 'leads out of the folder of the data set')

    def check_space(self, needed: int) -> None:
        """Raise if the disk has fewer bytes left."""
        if needed > self.free:
            raise OSError(
                errno.ENOSPC,
                f'{self.archive} needs at least {needed / 1e9:.2f} GB to unpack; the disk has '
                f'{self.free / 1e9:.2f} GB left. Free some, or link the folder to another disk.',
            )

    def refuse(self, name: str, reason: str) -> None:
        """Raise :class:`UnsafeArchive`."""
        raise UnsafeArchive(
            f"{self.archive} is not unpacked: its member '{printable(name)}' {reason}. Get the "
            f'published archive from {self.url}.'
        )


def _extract_tar(file: IO[bytes], target: Path, guard: _Guard, nested: bool) -> None:
    """Extract a tar archive; with ``nested``, the archives in it become folders (one level)."""
    with tarfile.open(fileobj=file, mode='r|*') as tar:
        for member in tar:
            if not (member.isreg() or member.isdir()):
                guard.refuse(member.name, 'is a link or a special file')
            if nested and member.isreg() and member.name.endswith('.tar'):
                folder = member.name.removesuffix('.tar')
                guard.check_name(folder)
                _extract_tar(tar.extractfile(member), target / folder, guard, nested=False)
            else:
                guard.add(member.name, member.size)
                tar.extract(member, target, filter='data')


def _extract_zip(file: IO[bytes], target: Path, guard: _Guard) -> None:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if stat.S_ISLNK(member.external_attr >> 16):
                guard.refuse(member.filename, 'is a link or a special file')
            guard.add(member.filename, member.file_size)
            archive.extract(member, target)
