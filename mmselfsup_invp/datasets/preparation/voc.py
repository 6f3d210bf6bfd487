"""Read PASCAL VOC, which stays in its official layout; the root is ``VOCdevkit``."""

from collections.abc import Sequence
from pathlib import Path

from .data_set import Contents


def read_voc(root: Path, year: int, splits: Sequence[str]) -> Contents:
    """Names of the images of the splits in ``ImageSets/Main``; labels stay in the annotations.

    Args:
        root (Path): ``VOCdevkit``.
        year (int): 2007 or 2012.
        splits (Sequence[str]): ``'trainval'``, ``'test'``.

    Raises:
        FileNotFoundError: If a split, or the annotation of one of its images, is missing.
    """
    folder = root / f'VOC{year}'
    found = {}
    for split in splits:
        names = (folder / 'ImageSets' / 'Main' / f'{split}.txt').read_text().split()
        found[split] = [(f'{name}.jpg', None) for name in names]
        missing = [n for n in names if not (folder / 'Annotations' / f'{n}.xml').is_file()]
        if missing:
            raise FileNotFoundError(
                f'{len(missing):,} of {len(names):,} annotations of {split} are missing in '
                f'{folder / "Annotations"}, the first is {missing[0]}.xml. Delete {folder} and '
                'unpack the archives again.'
            )
    return Contents(found)
