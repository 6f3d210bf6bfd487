"""Whether images are there and whole."""

import os
import warnings
from collections.abc import Iterable, Sequence
from multiprocessing import Pool

from PIL import Image, UnidentifiedImageError
from rich.progress import track

CHUNK = 64  # Images that a process takes at a time.
NAMED = 10  # Files that a message names.


def image_fault(path: str) -> str | None:
    """What is wrong with an image, or None.

    A JPEG is decoded at an eighth of its size, which reads all of the file at a part of the cost.
    """
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter('ignore')  # Odd EXIF data do no harm.
            image.draft(image.mode, (1, 1))
            image.load()
    except FileNotFoundError:
        return 'missing'
    except UnidentifiedImageError:
        return 'no image'
    except Exception as error:  # PIL raises whatever a broken file leads it to.
        return f'broken: {error}'
    return None


def file_fault(path: str) -> str | None:
    """What is wrong with a file that is not opened, or None."""
    return None if os.path.isfile(path) else 'missing'


def find_faults(
    paths: Sequence[str], title: str, quick: bool = False, processes: int | None = None
) -> list[str]:
    """Open images, in several processes where there are many.

    Args:
        paths (Sequence[str]): The images.
        title (str): What the progress bar shows.
        quick (bool): Whether to look only if the files are there. Default: False.
        processes (int | None): Processes to open images with. Default: one for each CPU.

    Returns:
        list[str]: A line ``PATH (what is wrong)`` for each image that is missing or broken, in the
        order of ``paths``.

    Example:
        >>> find_faults(['data/pets/images/Abyssinian_1.jpg'], 'pets')
        []
    """
    if not paths:
        return []
    processes = min(processes or os.cpu_count() or 1, -(-len(paths) // CHUNK))
    if quick or processes <= 1:
        faults = map(file_fault if quick else image_fault, paths)
        return _described(paths, track(faults, title, total=len(paths)))
    with Pool(processes) as pool:
        faults = pool.imap(image_fault, paths, chunksize=CHUNK)
        return _described(paths, track(faults, title, total=len(paths)))


def _described(names: Sequence[str], faults: Iterable[str | None]) -> list[str]:
    return [f'{name} ({fault})' for name, fault in zip(names, faults, strict=True) if fault]


def brief(lines: Sequence[str]) -> str:
    """The first lines, and how many more there are."""
    more = len(lines) - NAMED
    named = '\n'.join(f'  {line}' for line in lines[:NAMED])
    return f'{named}\n  and {more:,} more' if more > 0 else named
