"""From downloaded files to checked images and lists, in one call that can be made again."""

import json
from collections.abc import Mapping
from pathlib import Path

from ..files import write_whole
from .archives import fetch, unpack
from .data_set import CLASSES, Contents, DataSet, Download, Sample
from .lists import format_line, parse_line
from .verify import brief, find_faults


def prepare(
    data_set: DataSet, root: Path | None = None, download: bool = False, quick: bool = False
) -> dict[str, int] | None:
    """Unpack, count, open the images, and write the lists last.

    Lists that are there are believed and never written again: their order is that of the rows of
    a memory bank.

    Args:
        data_set (DataSet): What to prepare.
        root (Path | None): Its folder. Default: the one that the configs read.
        download (bool): Whether to fetch what is missing and has a direct address. Default: False.
        quick (bool): Whether to count the images only, without opening them. Default: False.

    Returns:
        dict[str, int] | None: Images of each split; None if all was done already.

    Raises:
        FileNotFoundError: If something is to be downloaded first; the message says what.
        ValueError: If an archive, the number of images, an image or an older list is not right.
        OSError: If the disk is full, or a download fails.

    Example:
        >>> prepare(data_sets()['pets'], quick=True)
        {'train': 3680, 'test': 3669}
    """
    root = Path(root or data_set.root)
    if not missing_files(data_set, root):
        _check_lengths(data_set, root)
        _check_facts(data_set, root, data_set.asked)
        return None
    _obtain(data_set, root, download)
    if data_set.convert is not None:
        data_set.convert(root)
    contents = _read(data_set, root)
    _check_facts(data_set, root, contents.facts)
    _check_kept(data_set, root, contents)
    problems = _wrong_counts(data_set, contents)
    problems += _wrong_images(data_set, root, _joined(data_set, contents), quick)
    _raise(data_set, root, problems)
    _write(data_set, root, contents)
    _check_lengths(data_set, root)
    return {split: len(samples) for split, samples in contents.splits.items()}


def check(data_set: DataSet, root: Path | None = None, quick: bool = False) -> dict[str, int]:
    """Check the images of the lists that are there; nothing is written.

    Args:
        data_set (DataSet): What to check.
        root (Path | None): Its folder. Default: the one that the configs read.
        quick (bool): Whether to look only if the images are there. Default: False.

    Returns:
        dict[str, int]: Images of each list.

    Raises:
        FileNotFoundError: If the data set is not prepared; the message says what is missing.
        ValueError: If the number of images, or an image, is not right.
    """
    root = Path(root or data_set.root)
    missing = missing_files(data_set, root)
    if missing:
        _check_downloads(data_set, root)
        raise FileNotFoundError(
            f'{data_set.title} in {root} is not prepared: {", ".join(missing)} '
            f'{"is" if len(missing) == 1 else "are"} missing. Run\n  {data_set.command(root)}'
        )
    _check_lengths(data_set, root)
    lists = {
        item.file: [parse_line(line) for line in (root / item.file).open()]
        for item in data_set.lists
    }
    _raise(data_set, root, _wrong_images(data_set, root, lists, quick))
    return {file: len(samples) for file, samples in lists.items()}


def missing_files(data_set: DataSet, root: Path) -> list[str]:
    """The lists that are not there; a data set without missing ones is complete."""
    return [file for file in data_set.files if not (root / file).is_file()]


def missing_downloads(data_set: DataSet, root: Path) -> list[Download]:
    """The files that are still to be downloaded."""
    missing, comes_with_another = [], set()
    for download in data_set.downloads:
        there = (root / download.file).is_file() or not download.is_needed(root)
        if not there and download.file not in comes_with_another:
            missing.append(download)
        comes_with_another.update(download.holds)
    return missing


def facts(data_set: DataSet, root: Path) -> dict[str, object]:
    """How the images of the lists that are there were chosen; empty where nothing is known."""
    file = root / (data_set.facts_file or '')
    return json.loads(file.read_text()) if file.is_file() else {}


def _obtain(data_set: DataSet, root: Path, download: bool) -> None:
    """Download, if that is wanted, and unpack whatever was downloaded."""
    for item in missing_downloads(data_set, root) if download else ():
        if item.direct:
            fetch(item, root)
    _check_downloads(data_set, root)
    for item in data_set.downloads:
        if item.is_archive and item.is_needed(root):
            unpack(item, root)


def _check_downloads(data_set: DataSet, root: Path) -> None:
    """Raise with what is to be downloaded, if anything is."""
    missing = missing_downloads(data_set, root)
    if not missing:
        return
    lines = [f'{data_set.title} is not in {root}. Download']
    for item in missing:
        details = ', '.join(filter(None, [item.size, f'MD5 {item.md5}' if item.md5 else '']))
        lines += [f'  {item.file}{f" ({details})" if details else ""}', f'    {item.page}']
    lines += [f'into {root} and run', f'  {data_set.command(root)}']
    if any(item.direct for item in missing):
        lines.append('With --download it fetches what has a direct address.')
    raise FileNotFoundError('\n'.join([*lines, *([data_set.note] if data_set.note else [])]))


def _read(data_set: DataSet, root: Path) -> Contents:
    try:
        return data_set.read(root)
    except FileNotFoundError as error:
        if error.filename is None:  # A reader says what is missing.
            raise
        raise FileNotFoundError(
            f'{error.filename} is missing: {data_set.title} was unpacked in part. Delete its '
            f'folder, unpack the archive again, and run\n  {data_set.command(root)}'
        ) from error


def _joined(data_set: DataSet, contents: Contents) -> dict[str, list[Sample]]:
    """The images of each list."""
    return {
        item.file: [sample for split in item.splits for sample in contents.splits[split]]
        for item in data_set.lists
    }


def _wrong_counts(data_set: DataSet, contents: Contents) -> list[str]:
    problems = []
    for split, samples in contents.splits.items():
        expected = data_set.counts.get(split)
        if expected is None and not samples:
            problems.append(f'{split}: no image found.')
        elif expected not in (None, len(samples)):
            problems.append(f'{split}: {len(samples):,} images found, {expected:,} expected.')
    return problems


def _wrong_images(
    data_set: DataSet, root: Path, lists: dict[str, list[Sample]], quick: bool
) -> list[str]:
    paths = [
        f'{root / item.prefix}/{path}' for item in data_set.lists for path, _ in lists[item.file]
    ]
    faults = find_faults(paths, data_set.name, quick)
    return [f'{len(faults):,} images are missing or broken:\n{brief(faults)}'] if faults else []


def _raise(data_set: DataSet, root: Path, problems: list[str]) -> None:
    if problems:
        advice = 'Get these files again: delete their folder and unpack its archive.'
        lines = [f'{data_set.title} in {root} is not whole.', *problems]
        lines += [advice if data_set.downloads else data_set.note]
        raise ValueError('\n'.join([*lines, f'Then run\n  {data_set.command(root)}']))


def _write(data_set: DataSet, root: Path, contents: Contents) -> None:
    """Write what is missing, the lists last."""
    texts = {CLASSES: ''.join(f'{name}\n' for name in contents.classes)}
    for file, samples in _joined(data_set, contents).items():
        texts[file] = ''.join(map(format_line, samples))
    if data_set.facts_file is not None:
        write_whole(root / data_set.facts_file, json.dumps(contents.facts, indent=4) + '\n')
    for file in missing_files(data_set, root):
        write_whole(root / file, texts[file])


def _check_lengths(data_set: DataSet, root: Path) -> None:
    """Raise if a list that was there before is not as long as it should be."""
    for item in data_set.lists:
        if not all(split in data_set.counts for split in item.splits):
            continue
        expected = sum(data_set.counts[split] for split in item.splits)
        with (root / item.file).open() as file:
            found = sum(1 for line in file if line.strip())
        if found != expected:
            raise ValueError(
                f'{root / item.file} lists {found:,} images, {expected:,} are expected. If it is '
                'not meant to be so, delete it to have it built again by\n  '
                f'{data_set.command(root)}'
            )


def _check_kept(data_set: DataSet, root: Path, contents: Contents) -> None:
    """Raise if a list that is there, and will stay, has other images or labels than are found."""
    for file, samples in _joined(data_set, contents).items():
        if not (root / file).is_file():
            continue
        with (root / file).open() as lines:
            kept = {format_line(parse_line(line)) for line in lines if line.strip()}
        differing = sorted(kept.symmetric_difference(map(format_line, samples)))
        if differing:
            raise ValueError(
                f'{root / file} differs from the images and labels that are found in '
                f'{len(differing):,} lines:\n{brief([line.strip() for line in differing])}\nDelete '
                f'it to have it built again by\n  {data_set.command(root)}'
            )


def _check_facts(data_set: DataSet, root: Path, wanted: Mapping[str, object]) -> None:
    """Raise if lists that are there were drawn in another way than is wanted now."""
    known = facts(data_set, root)
    differing = {key: known.get(key) for key in wanted if known.get(key) != wanted[key]}
    lists = [str(root / item.file) for item in data_set.lists if (root / item.file).is_file()]
    if lists and differing and not known:
        raise ValueError(
            f'{", ".join(lists)}: not by this tool, for {root / data_set.facts_file} is not there. '
            'It is left as it is. Link the images into another folder and name that by --root, or '
            'move the list away.'
        )
    if lists and differing:
        raise ValueError(
            f'{", ".join(lists)}: made with {differing}, not with {dict(wanted)}. Delete these '
            'lists to have them made again; results of the two are not to be compared.'
        )
