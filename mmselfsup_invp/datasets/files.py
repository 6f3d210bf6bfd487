"""Files that are there whole or not at all."""

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a text file in one step, so that one cut short is never mistaken for a whole one.

    Args:
        path (Path): The file; its folder is made if it is not there. A file that is there is
            replaced.
        text (str): Its content, written as UTF-8.

    Raises:
        OSError: If the disk is full, or the folder may not be written to.

    Example:
        >>> write_whole(Path('data/digits/meta/train.txt'), '0/00000.png 0\\n')
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix('.unfinished')
    unfinished.write_text(text, encoding='utf-8')
    os.replace(unfinished, path)
