"""Checkpoints in the work folder: which one a run resumes from, and that none is overwritten."""

import os
import shlex
import sys
import time
from pathlib import Path
from zipfile import is_zipfile

from mmengine.config import Config

from ..evaluation.checkpoints import listed, no_checkpoint
from ..evaluation.runs import latest_checkpoint

# Where launchers give the rank of a process.
RANKS = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')


def prepare_resume(cfg: Config) -> None:
    """Find the checkpoint to resume from, and refuse to overwrite those of another run.

    Args:
        cfg (Config): Config of the run; ``resume`` and ``load_from`` are changed in place.

    Raises:
        FileNotFoundError: If the named checkpoint does not exist.
        ValueError: If the checkpoint is truncated.
        FileExistsError: If the work folder holds checkpoints and the run resumes from none of them.
    """
    folder = Path(cfg.work_dir)
    first = is_first_process(cfg.get('launcher', 'none'))
    if cfg.get('resume'):
        checkpoint = find_checkpoint(cfg.get('load_from'), folder)
        if checkpoint is None and first:
            print(f'{folder} has no checkpoint yet: the run starts from scratch.', flush=True)
        require_complete(checkpoint)
        cfg.resume, cfg.load_from = checkpoint is not None, checkpoint
    if first:  # The folder of other processes may be on another disk; one message is enough.
        refuse_other_run(folder, cfg.load_from if cfg.get('resume') else None)


def is_first_process(launcher: str) -> bool:
    """Whether this process has rank 0, before the process group exists."""
    ranks = [os.environ[name] for name in RANKS if name in os.environ]
    return launcher == 'none' or not ranks or int(ranks[0]) == 0


def find_checkpoint(name: str | None, folder: Path) -> str | None:
    """Path of a checkpoint.

    Args:
        name (str, optional): Path, or name in the work folder. None: the latest in the folder.
        folder (Path): The work folder.

    Returns:
        str | None: The path; None if ``name`` is None and the folder has no checkpoint.

    Raises:
        FileNotFoundError: If the named checkpoint does not exist.
    """
    if name is None:
        try:
            return str(latest_checkpoint(folder))
        except FileNotFoundError:
            return None
    if '://' in name:  # MMEngine downloads it.
        return name
    for path in (Path(name), folder / name):
        if path.is_file():
            return str(path)
    raise FileNotFoundError(no_checkpoint(folder / name))


def require_complete(checkpoint: str | None) -> None:
    """Raise ``ValueError`` if a checkpoint file is truncated."""
    if checkpoint and Path(checkpoint).is_file() and not is_zipfile(checkpoint):
        raise ValueError(
            f'{checkpoint} is damaged: the run was stopped while it was written, or it is no '
            'checkpoint. Delete it, or resume from another one by --resume PATH.'
        )


def refuse_other_run(folder: Path, resumed: str | None = None) -> None:
    """Raise ``FileExistsError`` if a run would overwrite the checkpoints in a folder.

    Args:
        folder (Path): The work folder.
        resumed (str, optional): Checkpoint from which the run resumes. Defaults to None.
    """
    found = sorted(folder.glob('*.pth'), key=lambda path: path.stat().st_mtime, reverse=True)
    if not found or (resumed and Path(resumed).resolve().parent == folder.resolve()):
        return
    names = listed([path.name for path in found])
    date = time.strftime('%Y-%m-%d %H:%M', time.localtime(found[0].stat().st_mtime))
    raise FileExistsError(
        f'{folder} holds another run: {names}, last written {date}. '
        'A new run would overwrite its checkpoints. Resume it by --resume (without a value: from '
        'the latest checkpoint), choose another folder by --work-dir, or delete that one.'
    )


def resume_instructions(cfg: Config) -> str:
    """What to do after an interrupt: the latest checkpoint and the command that resumes from it."""
    checkpoint = find_checkpoint(None, Path(cfg.work_dir))
    if checkpoint is None:
        interval = cfg.get('default_hooks', {}).get('checkpoint', {}).get('interval', 1)
        return (
            f'Interrupted. {cfg.work_dir} has no checkpoint yet '
            f'(default_hooks.checkpoint.interval = {interval}), so the run cannot be resumed.'
        )
    words = [sys.executable, *sys.argv]
    command = shlex.join(words if words[-1] == '--resume' else [*words, '--resume'])
    return f'Interrupted. The latest checkpoint is {checkpoint}. To resume:\n{command}'
