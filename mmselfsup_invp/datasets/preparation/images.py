"""Check that images exist and can be decoded."""

import os
import warnings
from collections.abc import Sequence
from multiprocessing import Pool

from PIL import Image, UnidentifiedImageError
from rich.progress import track

CHUNK = 64  # Images that a process takes at a time.


def file_error(path: str) -> str | None:
    """Why a path is no regular file, or None; the file is not opened."""
    if os.path.isfile(path):
        return None
    return 'not a regular file' if os.path.exists(path) else 'missing'


def image_error(path: str) -> str | None:
    """Why an image cannot be read, or None."""
    error = file_error(path)
    if error is not None:
        return error
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter('ignore')  # Invalid EXIF data are harmless.
            image.draft(image.mode, (1, 1))  # Decodes JPEG at an eighth of its size: it is faster.
            image.load()
    except UnidentifiedImageError:
        return 'no image'
    except Exception as error:  # PIL raises many types on broken files.
        return f'broken: {error}'
    return None


def find_unreadable(
    paths: Sequence[str], title: str, quick: bool = False, processes: int | None = None
) -> list[str]:
    """Open images, in several processes if there are many.

    Returns ``PATH (reason)`` for each unreadable image, in the order of ``paths``. With ``quick``
    only the existence of the files is checked.
    """
    processes = min(processes or os.cpu_count() or 1, -(-len(paths) // CHUNK))
    if quick or processes <= 1:
        errors = list(map(file_error if quick else image_error, track(paths, title)))
    else:
        with Pool(processes) as pool:
            results = pool.imap(image_error, paths, chunksize=CHUNK)
            errors = list(track(results, title, total=len(paths)))
    return [f'{path} ({error})' for path, error in zip(paths, errors, strict=True) if error]
