"""Training on a folder of images without a config."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..datasets.files import write_whole
from ..datasets.image_files import ImageFiles
from ..datasets.inspection import median_shorter_side
from .options import parse_values
from .recipe import USE, Hardware, choose, expectation, settings_text

# In the work folder.
FILE = 'recipe.py'


def use_images(args: Namespace) -> None:
    """Let the arguments of ``tools/train.py --images`` name a config, which is written if needed.

    A ``recipe.py`` in the work folder is used as it is, so that a run resumes with its settings and
    changes by hand are kept. Settings that are given replace those that were chosen, which
    ``tools/doctor.py`` and ``--dry-run`` write too, until a run has used them.

    Raises:
        FileExistsError: If settings are given and the work folder has others.
        ValueError: If there are too few images, none can be read, or a setting is not valid.
    """
    if args.launcher != 'none':
        raise ValueError(
            '--images chooses the settings for one process. Write them by --images FOLDER '
            '--dry-run, then start the processes with the recipe.py that it names.'
        )
    folder = Path(args.images).resolve()
    args.work_dir = args.work_dir or str(Path('work_dirs/images') / folder.name)
    path = Path(args.work_dir) / FILE
    args.config = str(path)
    if path.is_file() and f'images = {str(folder)!r}\n' not in path.read_text():
        raise FileExistsError(f'{path} is for other images. Choose another --work-dir.')
    if path.is_file() and not args.recipe:
        print(f'Settings: {path}, which exists. Delete it to choose them again.')
        return
    settings = choose_for(str(folder), parse_values(args.recipe or {}))
    text = settings + USE
    if path.is_file() and path.read_text() != text and not _is_unused(path, str(folder)):
        raise FileExistsError(
            f'{path} has other settings. Change that file and leave out --recipe, or choose '
            'another folder by --work-dir.'
        )
    write_whole(path, text)
    print(f'{settings}\nThese settings and their use are in {path}. To change them, copy it:')
    print('python tools/train.py COPY.py\n', flush=True)


def _is_unused(path: Path, folder: str) -> bool:
    """Whether a recipe is as it was chosen and no run has saved a checkpoint beside it."""
    if any(path.parent.glob('*.pth')):  # Looking at all images takes longer.
        return False
    return path.read_text() == choose_for(folder, {}) + USE


def choose_for(folder: str, changes: dict[str, Any]) -> str:
    """Look at a folder of images and return the beginning of a config for it."""
    images = ImageFiles(data_root=folder)
    num = len(images)
    side = median_shorter_side([images.get_data_info(row)['img_path'] for row in range(num)])
    hardware = Hardware.find()
    recipe = choose(num, side, hardware, **changes)
    about = f'{num:,} images, shorter side {side} pixels (median); {hardware}.'
    return settings_text(recipe, folder, f'{about}\n{expectation(num)}')


def named(cfg: Config, work_dir: str) -> Config:
    """Name the config of a run ``config.py``, so that MMEngine does not overwrite the recipe."""
    return Config(cfg._cfg_dict, cfg.text, str(Path(work_dir) / 'config.py'))
