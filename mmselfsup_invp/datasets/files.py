"""Text files that are written atomically, and messages about files."""

import os
from collections.abc import Sequence
from pathlib import Path

NAMED = 10  # Entries that a message shows.


def write_whole(path: Path, text: str) -> None:
    """Write a text file atomically: readers see the old content or the new one, never a part.

    The text goes to a temporary file in the same folder, which then replaces ``path``.

    Args:
        path (Path): File to write; missing parent folders are created.
        text (str): Content, encoded as UTF-8.

    Raises:
        OSError: If the disk is full or the folder is not writable.

    Example:
        >>> write_whole(Path('data/digits/meta/train.txt'), '0/00000.png 0\\n')
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'{path.name}.unfinished')
    temporary.write_text(text, encoding='utf-8')
    os.replace(temporary, path)


def printable(path: str | Path) -> str:
    """A path for messages: bytes that are not UTF-8 are shown as ``\\xNN``.

    Such names hold surrogates, which cannot be printed or written to a log.

    Example:
        >>> print(printable(os.fsdecode(b'caf\\xe9.png')))
        caf\\xe9.png
    """
    return os.fsencode(path).decode('utf-8', 'backslashreplace')


def shorten(lines: Sequence[str]) -> str:
    """The first ten lines, indented, and the number of the remaining ones."""
    more = len(lines) - NAMED
    shown = '\n'.join(f'  {line}' for line in lines[:NAMED])
    return f'{shown}\n  and {more:,} more' if more > 0 else shown
