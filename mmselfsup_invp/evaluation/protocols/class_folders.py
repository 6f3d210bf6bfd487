"""A folder of classes, its split and the features of its images."""

import os
from pathlib import Path

import numpy as np

from ...datasets.files import replacing
from ...datasets.preparation.folders import read_custom
from ..checkpoints import digest
from ..encoder import Encoder


class ClassFolders:
    """Images of a folder of classes, sorted by path.

    The layout is ``{train,test}/CLASS``, ``{train,val}/CLASS``, ``train/CLASS`` or ``CLASS``.
    Without a split, a fifth of each class is drawn by the seed for the test, not its only image.

    Attributes:
        files (list[str]): Paths of the images, N.
        label (ndarray): int64, shape ``(N,)``, their classes.
        train, test (ndarray): int64, positions of the images of each split.
        key (str): Hash of the names of the images, their sizes in bytes and their labels.
        ignored (str): How many images that lie elsewhere are left out, and where; '' if none.

    Raises:
        FileNotFoundError: If there are no class folders.
        ValueError: If there is one class only, a class has no training image, or there are no test
            images.
    """

    def __init__(self, root: Path, seed: int = 0) -> None:
        contents = read_custom(root, seed)
        held_out = {name for name, _ in contents.splits['test']}
        samples = sorted(contents.splits['train'] + contents.splits['test'])
        is_test = np.array([name in held_out for name, _ in samples], dtype=bool)
        self.files = [str(root / name) for name, _ in samples]
        self.label = np.array([label for _, label in samples], dtype=np.int64)
        self.train, self.test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
        self.key = digest([(*sample, os.path.getsize(root / sample[0])) for sample in samples])
        self.ignored = str(contents.selection.get('ignored', ''))
        counts = np.bincount(self.label[self.train])
        if len(counts) < 2 or not len(self.test):
            found = ', '.join(map('{} {}'.format, contents.classes, counts))
            raise ValueError(
                f'{root} needs two classes or more, and test images: a class with one image alone '
                f'keeps it for training. Found to train: {found}; to test: {len(self.test)}. '
                'Images must lie directly in the folder of their class.'
            )

    def majority(self) -> float:
        """Percentage of test images of the most frequent class of the training images."""
        most = np.bincount(self.label[self.train]).argmax()
        return 100 * float((self.label[self.test] == most).mean())

    def features(self, encoder: Encoder, folder: Path) -> np.ndarray:
        """Features of all images, float32, ``(N, D)``, stored in a folder for other protocols."""
        path = folder / f'{digest([encoder.key, self.key])}.npy'
        if not path.is_file():
            features = encoder.features(self.files)
            with replacing(path) as part, part.open('wb') as file:
                np.save(file, features)
        return np.load(path)
