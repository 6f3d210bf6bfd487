"""Where a run begins, and what its work folder holds already."""

import os
import shlex
import sys
import time
from pathlib import Path
from zipfile import is_zipfile

from mmengine.config import Config

from ..evaluation.checkpoints import no_checkpoint
from ..evaluation.runs import latest_checkpoint

NAMED_AT_MOST = 4
# What launchers call the number of a process among all.
RANKS = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')


def prepare_resume(cfg: Config) -> None:
    """Find the checkpoint to resume from; see that a new run overwrites none of another.

    Args:
        cfg (Config): Of the run; ``resume`` and ``load_from`` are changed in place.

    Raises:
        FileNotFoundError: If there is no checkpoint of that name.
        ValueError: If it was not written to its end.
        FileExistsError: If the work folder holds checkpoints that the run does not go on from.
    """
    folder = Path(cfg.work_dir)
    first = is_first_process(cfg.get('launcher', 'none'))
    if cfg.get('resume'):
        checkpoint = find_checkpoint(cfg.get('load_from'), folder)
        if checkpoint is None and first:
            print(f'There is no checkpoint in {folder} yet: starting anew.', flush=True)
        require_whole(checkpoint)
        cfg.resume, cfg.load_from = checkpoint is not None, checkpoint
    if first:  # The others may see another disk, and one message is enough.
        refuse_other_run(folder, cfg.load_from if cfg.get('resume') else None)


def is_first_process(launcher: str) -> bool:
    """Whether this process is the one that writes, before the processes know each other."""
    ranks = [os.environ[name] for name in RANKS if name in os.environ]
    return launcher == 'none' or not ranks or int(ranks[0]) == 0


def find_checkpoint(name: str | None, folder: Path) -> str | None:
    """The checkpoint of that name from here or from the work folder; without one the latest there.

    Raises:
        FileNotFoundError: If there is no checkpoint of that name.
    """
    if name is None:
        try:
            return str(latest_checkpoint(folder))
        except FileNotFoundError:
            return None
    if '://' in name:  # What MMEngine downloads.
        return name
    for path in (Path(name), folder / name):
        if path.is_file():
            return str(path)
    raise FileNotFoundError(no_checkpoint(folder / name))


def require_whole(checkpoint: str | None) -> None:
    """Raise ``ValueError`` if a run was stopped while it wrote the file."""
    if checkpoint and Path(checkpoint).is_file() and not is_zipfile(checkpoint):
        raise ValueError(
            f'{checkpoint} is damaged: the run was stopped while it was written, or it is no '
            'checkpoint. Delete it, or resume from another by --resume PATH.'
        )


def refuse_other_run(folder: Path, resumed: str | None = None) -> None:
    """Raise if a folder holds checkpoints, unless the run goes on from one of them.

    Raises:
        FileExistsError: Says what is there, and the ways out.
    """
    there = sorted(folder.glob('*.pth'), key=lambda path: path.stat().st_mtime)
    ours = resumed is not None and Path(resumed).resolve().parent == folder.resolve()
    if not there or ours:
        return
    more = len(there) - NAMED_AT_MOST
    names = ', '.join(path.name for path in there[-NAMED_AT_MOST:])
    date = time.strftime('%Y-%m-%d %H:%M', time.localtime(there[-1].stat().st_mtime))
    raise FileExistsError(
        f'{folder} holds a run already: {names}{f" and {more} more" if more > 0 else ""}, last '
        f'written {date}. A new run there would overwrite or mix its checkpoints. Go on with it '
        'by --resume (without a path: from the latest), name another folder by --work-dir, or '
        'delete that one.'
    )


def how_to_go_on(cfg: Config) -> str:
    """What somebody needs to know who stopped a run."""
    checkpoint = find_checkpoint(None, Path(cfg.work_dir))
    if checkpoint is None:
        interval = cfg.get('default_hooks', {}).get('checkpoint', {}).get('interval', 1)
        return (
            f'Stopped. {cfg.work_dir} has no checkpoint yet (default_hooks.checkpoint.interval = '
            f'{interval}): the run can only begin anew.'
        )
    words = [sys.executable, *sys.argv]
    command = shlex.join(words if words[-1] == '--resume' else [*words, '--resume'])
    return f'Stopped. The latest checkpoint is {checkpoint}. To go on:\n{command}'
