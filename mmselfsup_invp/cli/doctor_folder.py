"""Where an examined run will write: whether it may, and how much."""

import copy
import tempfile
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .lock import LOCK, work_folder_lock
from .work_folder import is_first_process, prepare_resume


def require_work_folder(cfg: Config) -> None:
    """Raise ``OSError`` if training would refuse the work folder; nothing is left in it."""
    prepare_resume(copy.deepcopy(cfg))
    work_dir = Path(cfg.work_dir)
    try:
        # The file has no name where the system can do that, and is removed elsewhere.
        with tempfile.TemporaryFile(dir=existing_folder(work_dir)):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise OSError(
            f'{work_dir} cannot be written ({reason}). Choose another folder by --work-dir.'
        ) from error
    first = is_first_process(cfg.get('launcher', 'none'))
    if first and (work_dir / LOCK).exists():  # Of an earlier run, or of one that is in progress.
        with work_folder_lock(work_dir):
            pass


def existing_folder(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.resolve()
    return next(one for one in (folder, *folder.parents) if one.exists())


def kept_checkpoints(cfg: Config, batches: int) -> int:
    """Checkpoints in the work folder at the end of a run with these batches in an epoch."""
    options: dict[str, Any] = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    steps = cfg.train_cfg.max_epochs * (1 if options.get('by_epoch', True) else batches)
    interval = options.get('interval', 1)
    # The last step is saved too.
    written = -(-steps // interval) if interval > 0 else 1
    kept = options.get('max_keep_ckpts', -1)
    return min(kept, written) if kept > 0 else written
