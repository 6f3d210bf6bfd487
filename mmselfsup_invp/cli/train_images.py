"""``mmselfsup_invp.train``: what ``tools/train.py --images`` does, as a function."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from ..config import merge_options
from ..evaluation.runs import separate_logs
from . import training
from .options import disable_persistent_workers


def train(
    images: str | Path,
    work_dir: str | Path | None = None,
    resume: bool = False,
    options: dict[str, Any] | None = None,
    **recipe: Any,
) -> Path:
    """Train on a folder of images without labels; the same as ``tools/train.py --images``.

    Args:
        images (str | Path): Folder of the images, at any depth.
        work_dir (str | Path, optional): Folder for the config, logs and checkpoints. Defaults to
            None: ``work_dirs/images/NAME``.
        resume (bool): Whether to continue from the latest checkpoint there. Defaults to False.
        options (dict, optional): Settings of the config by their dotted names. Defaults to None.
        **recipe: Fields of :class:`~mmselfsup_invp.cli.recipe.Recipe`: ``image_size``, ``epochs``,
            ``batch_size``, ...

    Returns:
        Path: The work folder.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: See
            :func:`~mmselfsup_invp.cli.images.use_images`.

    Example:
        >>> import mmselfsup_invp
        >>> mmselfsup_invp.train('photos', epochs=50)  # doctest: +SKIP
        PosixPath('work_dirs/images/photos')
    """
    args = Namespace(
        images=str(images),
        config=None,
        work_dir=str(work_dir) if work_dir else None,
        recipe={name: str(value) for name, value in recipe.items()},
        cfg_options={},
        launcher='none',
        resume='auto' if resume else None,
        amp=False,
        auto_scale_lr=False,
        log_to=None,
    )
    cfg = training.load_config(args)
    merge_options(cfg, options)
    disable_persistent_workers(cfg)
    separate_logs(cfg, Path(cfg.work_dir).name)
    training.train(cfg)
    return Path(cfg.work_dir)
