import os
from collections.abc import Iterator, Sequence
from typing import Literal

import torch

from ..compat.host import DATASETS, BaseDataset
from ..options import checked
from .files import printable
from .transforms import UnreadableImage

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.bmp', '.pgm', '.ppm', '.tif', '.tiff', '.webp')


@DATASETS.register_module()
@checked
class ImageFiles(BaseDataset):
    """Images without labels: every image below a folder, or those that a list names.

    Without a list, the folder is searched recursively for names that end in one of the
    extensions (case-insensitive). The images are sorted by path, so that ``sample_idx`` is the
    same in every run. Links are followed; hidden files and folders are skipped.

    With a list, each line is the path of an image below the folder, in this order. Names may
    contain blanks; blank lines are skipped. File names need not be UTF-8.

    Args:
        ann_file (str): List of images below ``data_root``. Defaults to '', no list.
        data_prefix (str | dict): Folder of the images below ``data_root``. Defaults to ''.
        extensions (Sequence[str]): Extensions of images; not applied to a list. Defaults to those
            of JPEG, PNG, BMP, PGM, PPM, TIFF and WebP.
        broken (str): What happens if an image cannot be read: ``'raise'`` ends the run with its
            name; ``'skip'`` takes the next image that can be read, with the ``sample_idx`` of that
            one. The row of a skipped image keeps its initial value. Defaults to ``'raise'``.
        **kwargs: Arguments of MMClassification's ``BaseDataset``.

    Raises:
        FileNotFoundError: If the folder or the list does not exist.
        ValueError: If there is no image, if links lead to the same folder twice (a link to a
            parent folder, for example), or if an image is no regular file (a FIFO, a broken link).

    Attributes:
        skipped (Tensor): bool, shape ``(N,)``: images that could not be read so far. In shared
            memory, so that the main process sees what the workers of a loader skipped.

    Example:
        >>> images = ImageFiles(data_root='data/custom', data_prefix='train')  # doctest: +SKIP
        >>> images.get_data_info(0)  # doctest: +SKIP
        {'img_path': 'data/custom/train/my cat/1.JPG', 'sample_idx': 0}
    """

    def __init__(
        self,
        ann_file: str = '',
        *,
        extensions: Sequence[str] = EXTENSIONS,
        broken: Literal['raise', 'skip'] = 'raise',
        **kwargs,
    ) -> None:
        self.extensions = tuple(extension.lower() for extension in extensions)
        self.broken = broken
        super().__init__(ann_file, **kwargs)

    def full_init(self) -> None:
        """Search for the images; a second call does nothing."""
        super().full_init()
        if not hasattr(self, 'skipped'):
            self.skipped = torch.zeros(len(self), dtype=torch.bool).share_memory_()

    def prepare_data(self, idx: int) -> dict:
        """Load an image, or with ``broken='skip'`` the next one that can be read.

        Raises:
            UnreadableImage: If the image cannot be read; with ``broken='skip'``, if none can.
        """
        for position in range(idx, idx + len(self)):
            row = position % len(self)
            try:
                return super().prepare_data(row)
            except UnreadableImage:
                if self.broken == 'raise':
                    raise
                self.skipped[row] = True
        raise UnreadableImage(
            f'None of the {len(self)} images below {self.img_prefix} can be read.'
        )

    def load_data_list(self) -> list[dict]:
        """The paths of the images, in order."""
        paths = self._from_list() if self.ann_file else self._from_folder()
        return [dict(img_path=path) for path in paths]

    def _from_list(self) -> list[str]:
        try:
            # Lists of other systems may have a byte order mark or names that are not UTF-8.
            with open(self.ann_file, encoding='utf-8-sig', errors='surrogateescape') as lines:
                names = [line.rstrip() for line in lines]
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'The list {self.ann_file} does not exist. Check data_root and ann_file of '
                f"ImageFiles, or set ann_file='' to take all images below {self.img_prefix}."
            ) from error
        return [os.path.join(self.img_prefix, name) for name in names if name]

    def _from_folder(self) -> list[str]:
        if not os.path.isdir(self.img_prefix):
            raise FileNotFoundError(
                f'The folder {self.img_prefix!r} does not exist. Check data_root and data_prefix '
                'of ImageFiles.'
            )
        entries = _entries(self.img_prefix, {})
        images = [entry for entry in entries if entry.name.lower().endswith(self.extensions)]
        for entry in images:
            if not entry.is_file():
                raise ValueError(
                    f'{printable(entry.path)} is no regular file, but a broken link, a FIFO, a '
                    'socket or a device. Remove it from the folder.'
                )
        if not images:
            raise ValueError(
                f'The data set ImageFiles holds no image: no name below {self.img_prefix} ends in '
                f'{", ".join(self.extensions)}. Check data_root and data_prefix of its config, or '
                'set extensions.'
            )
        return sorted(entry.path for entry in images)


def _entries(folder: str, visited: dict[tuple[int, int], str]) -> Iterator[os.DirEntry]:
    """All entries below a folder, also through links, that are neither hidden nor folders.

    ``visited`` holds device and inode of the folders searched before. A folder that is reached
    twice raises ``ValueError``, one that is not readable ``OSError``: skipping it would shift the
    rows of the bank.
    """
    status = os.stat(folder)
    other = visited.setdefault((status.st_dev, status.st_ino), folder)
    if other != folder:
        raise ValueError(
            f'{printable(folder)} and {printable(other)} are the same folder, so its images would '
            'appear twice in the data set. Remove the link, or list the images in an ann_file.'
        )
    with os.scandir(folder) as found:
        visible = [entry for entry in found if not entry.name.startswith('.')]
    for entry in visible:
        if entry.is_dir():
            yield from _entries(entry.path, visited)
        else:
            yield entry
