"""Lists of images, as the configs read them."""

import re
from pathlib import Path

from ..files import printable
from .data_set import Sample

# Bytes that are not UTF-8 (surrogates in Python's file names), line breaks, blanks at the ends.
UNSUPPORTED = re.compile(r'[\ud800-\udfff\r\n]|^\s|\s$')


def parse_line(line: str) -> Sample:
    """Path and label of a line; the label is None if there is none."""
    path, _, label = line.strip().rpartition(' ')
    try:
        return (path, int(label)) if path else (label, None)
    except ValueError as error:
        raise ValueError(
            f'{line.strip()!r} is no line of a list; expected a path, a blank and a label.'
        ) from error


def read_list(path: Path) -> list[Sample]:
    """Paths and labels of a list; blank lines are skipped."""
    with path.open(encoding='utf-8') as lines:
        return [parse_line(line) for line in lines if line.strip()]


def format_line(sample: Sample) -> str:
    """The line of a path and a label; a path that such a line cannot hold is refused."""
    path, label = sample
    if UNSUPPORTED.search(path):
        raise ValueError(
            f"'{printable(path)}' cannot be put into a list: file names must be UTF-8, without "
            'control characters and without blanks at either end. Rename the file or its folder.'
        )
    return f'{path}\n' if label is None else f'{path} {label}\n'
