"""Files that are written atomically, and messages about files."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

NAMED = 10  # Entries that a message shows.


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Path of a temporary file that replaces ``path`` if the block ends without an error.

    Readers see the old content or the new one, never a part. Missing parent folders are created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'{path.name}.unfinished')
    yield temporary
    os.replace(temporary, path)


def write_whole(path: Path, text: str) -> None:
    """Write a text file in UTF-8, see :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding='utf-8')


def printable(path: str | Path) -> str:
    """A path for messages: bytes that are not UTF-8 (surrogates) are shown as ``\\xNN``."""
    return os.fsencode(path).decode('utf-8', 'backslashreplace')


def listed(names: list[str], most: int = 4) -> str:
    """The first of some names, and how many more there are."""
    rest = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(names[:most]) + rest


def shorten(lines: Sequence[str]) -> str:
    """The first ten lines, indented, and the number of the remaining ones."""
    more = len(lines) - NAMED
    shown = '\n'.join(f'  {line}' for line in lines[:NAMED])
    return f'{shown}\n  and {more:,} more' if more > 0 else shown
