"""Files that are written atomically, their sizes, and messages about files."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from uuid import uuid4

NAMED = 10  # Entries that a message shows.
MISSING = -1  # Size of a file that cannot be read.
# On network file systems each size is a round trip.
THREADS = 32
BLOCK = 256  # Files that a thread takes at a time.


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Path of a temporary file that replaces ``path`` if the block ends without an error.

    Readers see the old content or the new one, never a part; of several writers, also in other
    processes, the last one to finish counts. After an error the temporary file is removed. Missing
    parent folders are created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A process number would not do: machines that share a file system have equal ones.
    temporary = path.with_name(f'{path.name}.{uuid4().hex[:12]}.unfinished')
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file in UTF-8, see :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding='utf-8')


def file_sizes(paths: Sequence[str]) -> list[int]:
    """Sizes of files in bytes; -1 for one that is missing or not local."""
    blocks = [paths[start : start + BLOCK] for start in range(0, len(paths), BLOCK)]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(chain.from_iterable(pool.map(lambda block: [*map(_size, block)], blocks)))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):  # The latter for a path with a null character.
        return MISSING


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
