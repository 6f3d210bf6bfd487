"""Prepare a data set: unpack, read, check the images and write the lists."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..files import shorten, write_whole
from .archives import fetch, unpack
from .data_set import CLASSES, Contents, DataSet, Sample
from .images import find_unreadable
from .lists import format_line, read_list

Lists = Mapping[str, list[Sample]]  # Samples by the file name of their list.


def prepare(
    data_set: DataSet, root: Path | None = None, download: bool = False, quick: bool = False
) -> dict[str, int] | None:
    """Unpack a data set, check its images and write its lists.

    The lists are written last. Existing lists are never changed, because their order is that of the
    rows of a memory bank.

    Args:
        data_set (DataSet): Data set to prepare.
        root (Path | None): Its folder. Default: the one that the configs read.
        download (bool): Whether to fetch missing files that have a direct address. Default: False.
        quick (bool): Whether to check the existence of the images only. Default: False.

    Returns:
        dict[str, int] | None: Number of images by split; None if all lists existed before.

    Raises:
        FileNotFoundError: If files are to be downloaded first; the message lists them.
        ValueError: If an archive, the number of images, an image or an existing list is wrong.
        OSError: If the disk is full or a download fails.
    """
    root = Path(root or data_set.root)
    if not data_set.missing_files(root):
        _check_lengths(data_set, root)
        _check_selection(data_set, root, data_set.requested)
        return None
    _unpack_all(data_set, root, download)
    contents = _read(data_set, root)
    lists = {
        item.file: [sample for split in item.splits for sample in contents.splits[split]]
        for item in data_set.lists
    }
    _check_selection(data_set, root, contents.selection)
    _check_existing(data_set, root, lists)
    _check_images(data_set, root, lists, quick, _wrong_counts(data_set, contents))
    _write(data_set, root, contents, lists)
    _check_lengths(data_set, root)
    return {split: len(samples) for split, samples in contents.splits.items()}


def check(data_set: DataSet, root: Path | None = None, quick: bool = False) -> dict[str, int]:
    """Check the images of a prepared data set and return their number by list; nothing is written.

    Arguments and errors are those of :func:`prepare`.
    """
    root = Path(root or data_set.root)
    missing = data_set.missing_files(root)
    if missing:
        _check_downloads(data_set, root)
        raise FileNotFoundError(
            f'{data_set.title} in {root} is not prepared; missing: {", ".join(missing)}. Run\n  '
            f'{data_set.command(root)}'
        )
    _check_lengths(data_set, root)
    lists = {item.file: read_list(root / item.file) for item in data_set.lists}
    _check_images(data_set, root, lists, quick)
    return {file: len(samples) for file, samples in lists.items()}


def selection(data_set: DataSet, root: Path) -> dict[str, object]:
    """How the images of the existing lists were drawn; empty if that is not recorded."""
    file = root / data_set.selection_file
    return json.loads(file.read_text()) if file.is_file() else {}


def _unpack_all(data_set: DataSet, root: Path, download: bool) -> None:
    """Fetch missing files if ``download``, and unpack all archives that are needed."""
    for item in data_set.missing_downloads(root) if download else ():
        if item.direct:
            fetch(item, root)
    _check_downloads(data_set, root)
    for item in data_set.downloads:
        if item.is_archive and item.is_needed(root):
            unpack(item, root)


def _check_downloads(data_set: DataSet, root: Path) -> None:
    """Raise with the list of missing downloads, if there are any."""
    missing = data_set.missing_downloads(root)
    if not missing:
        return
    lines = [f'{data_set.title} is not in {root}. Download']
    for item in missing:
        details = ', '.join(filter(None, [item.size, item.md5 and f'MD5 {item.md5}']))
        lines += [f'  {item.file}{details and f" ({details})"}', f'    {item.url}']
    lines += [f'into {root} and run', f'  {data_set.command(root)}']
    if any(item.direct for item in missing):
        lines.append('The option --download fetches the files with a direct address.')
    raise FileNotFoundError('\n'.join(filter(None, [*lines, data_set.note])))


def _read(data_set: DataSet, root: Path) -> Contents:
    try:
        return data_set.read(root)
    except FileNotFoundError as error:
        if error.filename is None:  # A message of the reader.
            raise
        raise FileNotFoundError(
            f'{error.filename} is missing: {data_set.title} was unpacked in part. Delete its '
            f'folder, unpack the archive again, and run\n  {data_set.command(root)}'
        ) from error


def _wrong_counts(data_set: DataSet, contents: Contents) -> list[str]:
    problems = []
    for split, samples in contents.splits.items():
        expected = data_set.counts.get(split)
        if expected is None and not samples:
            problems.append(f'{split}: no image found.')
        elif expected not in (None, len(samples)):
            problems.append(f'{split}: {len(samples):,} images found, {expected:,} expected.')
    return problems


def _check_images(
    data_set: DataSet, root: Path, lists: Lists, quick: bool, problems: Sequence[str] = ()
) -> None:
    """Raise with the given problems and with the images that cannot be read, if any."""
    folders = {item.file: root / item.prefix for item in data_set.lists}
    paths = [f'{folders[file]}/{path}' for file, samples in lists.items() for path, _ in samples]
    unreadable = find_unreadable(paths, data_set.name, quick)
    if unreadable:
        listed = f'{len(unreadable):,} images are missing or broken:\n{shorten(unreadable)}'
        problems = [*problems, listed]
    if problems:
        advice = 'Delete the folder of these images, so that its archive is unpacked again.'
        advice = advice if data_set.downloads else data_set.note
        lines = [f'{data_set.title} in {root} is incomplete.', *problems, advice]
        raise ValueError('\n'.join([*lines, f'Then run\n  {data_set.command(root)}']))


def _write(data_set: DataSet, root: Path, contents: Contents, lists: Lists) -> None:
    """Write the missing files, the lists last."""
    texts = {CLASSES: ''.join(f'{name}\n' for name in contents.classes)}
    texts |= {file: ''.join(map(format_line, samples)) for file, samples in lists.items()}
    if data_set.selection_file:
        note = json.dumps(contents.selection, indent=4)
        write_whole(root / data_set.selection_file, f'{note}\n')
    for file in data_set.missing_files(root):
        write_whole(root / file, texts[file])


def _check_lengths(data_set: DataSet, root: Path) -> None:
    """Raise if a list has not the expected number of images."""
    for item in data_set.lists:
        if not all(split in data_set.counts for split in item.splits):
            continue
        expected = sum(data_set.counts[split] for split in item.splits)
        found = len(read_list(root / item.file))
        if found != expected:
            raise ValueError(
                f'{root / item.file} lists {found:,} images, {expected:,} are expected. Unless '
                f'that is intended, delete it and write it again with\n  {data_set.command(root)}'
            )


def _check_existing(data_set: DataSet, root: Path, lists: Lists) -> None:
    """Raise if an existing list, which is kept, has other images or labels than were found."""
    for file, samples in lists.items():
        existing = read_list(root / file) if (root / file).is_file() else samples
        different = sorted({format_line(sample) for sample in {*existing} ^ {*samples}})
        if different:
            raise ValueError(
                f'{root / file} differs from the images and labels that were found in '
                f'{len(different):,} lines:\n{shorten([line.strip() for line in different])}\n'
                f'Delete it and write it again with\n  {data_set.command(root)}'
            )


def _check_selection(data_set: DataSet, root: Path, wanted: Mapping[str, object]) -> None:
    """Raise if existing lists were drawn in another way than is wanted now."""
    recorded = selection(data_set, root)
    different = {key: recorded.get(key) for key in wanted if recorded.get(key) != wanted[key]}
    lists = ', '.join(str(root / i.file) for i in data_set.lists if (root / i.file).is_file())
    if not lists or not different:
        return
    if not recorded:
        raise ValueError(
            f'{lists}: not written by this tool, because {root / data_set.selection_file} does not '
            'exist. Move the list away, or link the images into another folder and pass that as '
            '--root.'
        )
    raise ValueError(
        f'{lists}: drawn with {different}, not with {dict(wanted)}. Delete these lists to draw '
        'them again; results of different draws are not comparable.'
    )
