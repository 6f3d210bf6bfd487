"""Checkpoint files of a work folder: whether they are intact, and which is the newest."""

import re
from pathlib import Path
from zipfile import ZIP_STORED, BadZipFile, ZipFile

NAME = re.compile(r'(?:epoch|iter)_(\d+)\.pth')
RECORD = 'last_checkpoint'


def damage_of(path: str | Path) -> str | None:
    """What is wrong with a file of ``torch.save``, which is not unpickled; None if it is intact.

    The file is a ZIP archive with a CRC-32 checksum of every tensor, which ``torch.load`` does not
    compare. Here the whole file is read and compared. Compressed and overlapping members, which
    ``torch.save`` never writes and which expand to any size, are refused.
    """
    path = Path(path)
    try:
        with ZipFile(path) as archive:
            members = archive.infolist()
            if any(member.compress_type != ZIP_STORED for member in members):
                return 'compressed, which torch.save never does'
            if sum(member.file_size for member in members) > path.stat().st_size:
                return 'larger in its table of contents than on disk'
            corrupt = archive.testzip()
    except BadZipFile as error:
        # The table of contents is at the end of the file.
        return 'truncated' if 'not a zip file' in str(error) else f'corrupt ({error})'
    except OSError as error:
        return f'unreadable ({error})'
    except Exception as error:  # Damaged entries make zipfile fail in many ways.
        return f'corrupt ({error})'
    return f'corrupt (checksum of {corrupt})' if corrupt else None


def require_intact(path: str | Path) -> None:
    """Raise ``ValueError`` if :func:`damage_of` finds something."""
    if found := damage_of(path):
        raise ValueError(
            f'{path} is {found}: the run was stopped while it was written, the disk has failed, or '
            'it is no checkpoint. Give another checkpoint.'
        )


def no_checkpoint(path: Path) -> str:
    """The message for a missing checkpoint, with those that lie in its folder."""
    found = ', '.join(sorted(file.name for file in path.parent.glob('*.pth')))
    return f'There is no checkpoint {path}.{f" In that folder: {found}." if found else ""}'


def newest_intact(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest intact checkpoint of a run, or None, and the damaged ones that are newer."""
    damaged = []
    for path in checkpoints_of(folder):
        found = damage_of(path)
        if found is None:
            return path, damaged
        damaged.append(f'{path.name} is {found}')
    return None, damaged


def choice_of_checkpoint(folder: Path, newest: Path | None, damaged: list[str]) -> str:
    """One line about what :func:`newest_intact` has found."""
    if newest:
        choice = f'The run resumes from {newest}'
    else:
        kind = 'intact checkpoint' if damaged else 'checkpoint yet'
        choice = f'{folder} has no {kind}: the run starts from scratch'
    return f'{choice}; passed over: {", ".join(damaged)}.' if damaged else f'{choice}.'


def latest_checkpoint(folder: Path) -> Path:
    """The newest intact checkpoint of a run; ``FileNotFoundError`` without one."""
    newest, damaged = newest_intact(folder)
    if newest is None:
        found = f' ({"; ".join(damaged)})' if damaged else ''
        raise FileNotFoundError(
            f'{folder} has no intact checkpoint (epoch_*.pth or iter_*.pth){found}. Train at least '
            'until default_hooks.checkpoint.interval, or give one by --checkpoint.'
        )
    return newest


def checkpoints_of(folder: Path) -> list[Path]:
    """The checkpoints ``epoch_*.pth`` and ``iter_*.pth`` of a run, the newest first.

    The newest is that which ``last_checkpoint`` names, because a run that was resumed from an
    older checkpoint leaves behind those with higher numbers, unless a later one was written after
    it: then the run was stopped between the two.
    """
    record = folder / RECORD
    recorded = _recorded(folder)
    since = record.stat().st_mtime_ns if recorded else 0
    files = {file for file in folder.glob('*.pth') if NAME.fullmatch(file.name)}
    if recorded is not None:
        files |= {recorded}

    def order(path: Path) -> tuple:
        time, number = path.stat().st_mtime_ns, _number(path)
        later = recorded is not None and time > since and number > _number(recorded)
        return later, path == recorded, number, time

    return sorted(files, key=order, reverse=True)


def recorded_name(folder: Path) -> str:
    """What ``last_checkpoint`` in a work folder names; empty if it is missing or torn."""
    try:
        return (folder / RECORD).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ''


def _recorded(folder: Path) -> Path | None:
    """The checkpoint that ``last_checkpoint`` names, in this folder or where it was written."""
    named = recorded_name(folder)
    # The folder may have been moved.
    places = [folder / Path(named).name, Path(named)] if named else []
    return next((place for place in places if place.is_file()), None)


def _number(path: Path) -> int:
    found = NAME.fullmatch(path.name)
    return int(found[1]) if found else 0
