import os
from collections.abc import Sequence

from mmcls.datasets import BaseDataset
from mmselfsup.registry import DATASETS

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.bmp', '.pgm', '.ppm', '.tif', '.tiff', '.webp')


@DATASETS.register_module()
class ImageFiles(BaseDataset):
    """Images without labels: all of a folder, or those that a list names.

    Without a list, these are the files below the folder, however deep, whose names end in one of
    the extensions, in upper or lower case. They are ordered by path, so that the same files have
    the same ``sample_idx`` in every run. Links are followed; what is hidden, by a dot at the start
    of its name, is passed over.

    With one, each line is the path of an image below the folder; the order is that of the list.
    Names may contain blanks, and blank lines do not count.

    Args:
        ann_file (str): The list, below ``data_root``. Defaults to '', all images of the folder.
        data_prefix (str | dict): The folder, below ``data_root``. Defaults to '', ``data_root``.
        extensions (Sequence[str]): Ends of the names of images; not asked of a list. Defaults to
            those of JPEG, PNG, BMP, PGM, PPM, TIFF and WebP.
        **kwargs: As for MMClassification's ``BaseDataset``.

    Raises:
        FileNotFoundError: If the folder or the list is not there.
        ValueError: If there is no image.

    Example:
        >>> images = ImageFiles(data_root='data/custom', data_prefix='train')
        >>> images.get_data_info(0)
        {'img_path': 'data/custom/train/my cat/1.JPG', 'sample_idx': 0}
    """

    def __init__(
        self, ann_file: str = '', *, extensions: Sequence[str] = EXTENSIONS, **kwargs
    ) -> None:
        self.extensions = tuple(extension.lower() for extension in extensions)
        super().__init__(ann_file, **kwargs)

    def load_data_list(self) -> list[dict]:
        """The paths of the images, in order."""
        paths = self._listed() if self.ann_file else self._found()
        return [dict(img_path=path) for path in paths]

    def _listed(self) -> list[str]:
        try:
            # As written on other systems, too: with a byte order mark, or not in UTF-8.
            with open(self.ann_file, encoding='utf-8-sig', errors='surrogateescape') as lines:
                names = [line.rstrip() for line in lines]
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'There is no list {self.ann_file}. Look at data_root and ann_file of ImageFiles, '
                f"or set ann_file='' to take all images below {self.img_prefix}."
            ) from error
        return [os.path.join(self.img_prefix, name) for name in names if name]

    def _found(self) -> list[str]:
        if not os.path.isdir(self.img_prefix):
            raise FileNotFoundError(
                f'There is no folder {self.img_prefix!r}. Put the images there, or look at '
                'data_root and data_prefix of ImageFiles.'
            )
        paths = []
        for folder, folders, names in os.walk(self.img_prefix, onerror=_stop, followlinks=True):
            folders[:] = [name for name in folders if not name.startswith('.')]
            paths += [os.path.join(folder, name) for name in names if self._is_image(name)]
        if not paths:
            raise ValueError(
                f'The data set ImageFiles holds no image: no name below {self.img_prefix} ends in '
                f'{", ".join(self.extensions)}. Look at data_root and data_prefix of its config, '
                'or set extensions.'
            )
        return sorted(paths)

    def _is_image(self, name: str) -> bool:
        return name.lower().endswith(self.extensions) and not name.startswith('.')


def _stop(error: OSError) -> None:
    """Else a folder that may not be read would go missing silently, and rows would shift."""
    raise error
