"""Text files that are written atomically, and messages about files."""

import os
from collections.abc import Sequence
from pathlib import Path

NAMED = 10  # Entries that a message shows.


def write_whole(path: Path, text: str) -> None:
    """Write a text file atomically: readers see the old content or the new one, never a part.

    The text, in UTF-8, goes to a temporary file in the same folder, which then replaces ``path``.
    Missing parent folders are created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'{path.name}.unfinished')
    temporary.write_text(text, encoding='utf-8')
    os.replace(temporary, path)


def printable(path: str | Path) -> str:
    """A path for messages: bytes that are not UTF-8 (surrogates) are shown as ``\\xNN``."""
    return os.fsencode(path).decode('utf-8', 'backslashreplace')


def shorten(lines: Sequence[str]) -> str:
    """The first ten lines, indented, and the number of the remaining ones."""
    more = len(lines) - NAMED
    shown = '\n'.join(f'  {line}' for line in lines[:NAMED])
    return f'{shown}\n  and {more:,} more' if more > 0 else shown
