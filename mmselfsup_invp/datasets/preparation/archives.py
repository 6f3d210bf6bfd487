"""Download and unpack, so that an archive's content is there whole or is unpacked again."""

import errno
import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich import progress
from torchvision.datasets.utils import download_url

from .data_set import Download

DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError)


def fetch(download: Download, root: Path) -> None:
    """Download a file; one that is there and has the right checksum is left alone.

    Args:
        download (Download): What to get; ``direct`` must be true.
        root (Path): Folder to put it in.

    Raises:
        OSError: If it cannot be fetched, or is not what was published.
    """
    partial = f'{download.file}.unfinished'
    (root / partial).unlink(missing_ok=True)  # Without a checksum it would pass for a whole one.
    try:
        download_url(download.page, str(root), partial, download.md5)
    except (OSError, RuntimeError) as error:
        (root / partial).unlink(missing_ok=True)
        raise OSError(
            f'{download.page} cannot be downloaded ({error}). Fetch it by other means and put it '
            f'into {root} as {download.file}.'
        ) from error
    os.replace(root / partial, root / download.file)


def unpack(download: Download, root: Path) -> None:
    """Unpack an archive into the folder of its data set.

    All is unpacked beside its place first and then moved, which takes no time. The archive stays.

    Args:
        download (Download): The archive, which lies in ``root``.
        root (Path): Folder of the data set.

    Raises:
        ValueError: If the archive is damaged.
        OSError: If the disk has too little room.
    """
    archive, unfinished = root / download.file, download.unfinished(root)
    shutil.rmtree(unfinished, ignore_errors=True)
    _check_room(archive, root)
    unfinished.mkdir()
    try:
        with _damage_explained(archive, download):
            _unpacker(archive)(archive, unfinished / download.into)
    except BaseException:
        shutil.rmtree(unfinished)
        raise
    _merge(unfinished / download.strip, root)
    shutil.rmtree(unfinished)


def _unpacker(archive: Path) -> Callable[[Path, Path], None]:
    return _unpack_zip if archive.suffix == '.zip' else _unpack_tar


def _check_room(archive: Path, root: Path) -> None:
    """Images are compressed already: an archive of them unpacks to about its own size."""
    needed, free = archive.stat().st_size, shutil.disk_usage(root).free
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f'{archive} needs at least {needed / 1e9:.2f} GB to be unpacked, the disk has '
            f'{free / 1e9:.2f} GB left. Make room, or keep the data elsewhere and link the folder.',
        )


@contextmanager
def _damage_explained(archive: Path, download: Download) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno is not None:  # gzip's complaints carry no number.
            raise
        raise _damaged(archive, download, error) from error
    except DAMAGE as error:
        raise _damaged(archive, download, error) from error


def _damaged(archive: Path, download: Download, error: Exception) -> ValueError:
    return ValueError(
        f'{archive} is damaged or was not downloaded to its end ({error}). Delete it and get it '
        f'again from {download.page}.'
    )


def _unpack_tar(archive: Path, target: Path) -> None:
    """Unpack a tar archive; archives in it become folders, as the classes of ImageNet are."""
    with (
        progress.open(archive, 'rb', description=archive.name) as file,
        tarfile.open(fileobj=file, mode='r|*') as tar,
    ):
        for member in tar:
            if member.name.endswith('.tar') and member.isfile():
                with tarfile.open(fileobj=tar.extractfile(member), mode='r|') as inner:
                    inner.extractall(target / member.name.removesuffix('.tar'), filter='data')
            else:
                tar.extract(member, target, filter='data')


def _unpack_zip(archive: Path, target: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        for member in progress.track(file.infolist(), archive.name):
            file.extract(member, target)


def _merge(source: Path, target: Path) -> None:
    """Move all of a folder into another, where some of it may be already."""
    for entry in source.iterdir():
        place = target / entry.name
        if entry.is_dir() and place.is_dir():
            _merge(entry, place)
        else:
            shutil.move(entry, place)  # The folder may be a link to another disk.
