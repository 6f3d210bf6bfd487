"""Look through the image files of a data set: sizes, files that cannot be read, duplicates."""

import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median

from PIL import Image

from .transforms import LoadImage, UnreadableImage

ORIENTATION = 0x0112  # Tag of EXIF; 1 is upright.
# Files examined between two looks at the clock.
CHUNK = 64


@dataclass
class Inspection:
    """Result of :func:`inspect_images`.

    Attributes:
        num_images (int): Images of the data set.
        num_checked (int): Images that were decoded within the time.
        shorter_sides (list[int]): Pixels of the shorter side of every readable one.
        unreadable (list[str]): Messages of :class:`~.transforms.UnreadableImage`.
        rotated (int): Images whose EXIF orientation is not upright.
        duplicates (list[tuple[str, str]]): Files with the same content as an earlier file.
    """

    num_images: int
    num_checked: int = 0
    shorter_sides: list[int] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    rotated: int = 0
    duplicates: list[tuple[str, str]] = field(default_factory=list)


def inspect_images(paths: Sequence[str], seconds: float = 6.0) -> Inspection:
    """Decode images as training does, and search for files with the same content.

    If the time does not suffice, the images that were checked are spread evenly over the data set.
    Searching for duplicates takes half of the time at most and reads files of equal size only.
    """
    start = time.monotonic()
    found = Inspection(len(paths), duplicates=find_duplicates(paths, start + seconds / 2))
    spread = spread_out(paths)
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(spread), CHUNK):
            for side, orientation, error in pool.map(_examine, spread[first : first + CHUNK]):
                found.num_checked += 1
                if error:
                    found.unreadable.append(error)
                    continue
                found.shorter_sides.append(side)
                found.rotated += orientation > 1
            if time.monotonic() > start + seconds:
                break
    return found


def median_shorter_side(paths: Sequence[str], limit: int = 256) -> int:
    """Median of the shorter sides in pixels, from the headers of at most ``limit`` files."""
    sides = []
    for path in spread_out(paths)[:limit]:
        with suppress(OSError, Image.DecompressionBombError), Image.open(path) as image:
            sides.append(min(image.size))
    if not sides:
        raise ValueError(f'None of the files can be read as an image, for example {paths[0]}.')
    return int(median(sides))


def find_duplicates(paths: Sequence[str], deadline: float) -> list[tuple[str, str]]:
    """Find each file with the content of an earlier one, and that one.

    The search ends at the time ``deadline`` of ``time.monotonic()``.
    """
    by_size = defaultdict(list)
    for path in _until(deadline, paths):
        with suppress(OSError):
            by_size[os.path.getsize(path)].append(path)
    first: dict[bytes, str] = {}
    found = []
    for path in _until(deadline, (one for same in by_size.values() if same[1:] for one in same)):
        with suppress(OSError), open(path, 'rb') as file:
            digest = hashlib.file_digest(file, 'sha256').digest()
            if (other := first.setdefault(digest, path)) != path:
                found.append((path, other))
    return found


def spread_out(items: Sequence[str]) -> list[str]:
    """Order items so that the first of them are spread evenly over all."""
    step = max(-(-len(items) // CHUNK), 1)
    return [items[at] for first in range(step) for at in range(first, len(items), step)]


def _until(deadline: float, items: Iterable[str]) -> Iterator[str]:
    for item in items:
        if time.monotonic() > deadline:
            return
        yield item


def _examine(path: str) -> tuple[int, int, str]:
    """Shorter side, EXIF orientation and error of an image."""
    try:
        height, width = LoadImage()(dict(img_path=path))['img'].shape[:2]
    except UnreadableImage as error:
        return 0, 1, str(error)
    orientation = 1
    with suppress(Exception), Image.open(path) as image:  # A broken EXIF block is no error.
        orientation = image.getexif().get(ORIENTATION, 1)
    return min(height, width), orientation, ''
