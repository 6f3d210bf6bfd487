"""Checkpoints in the work folder: which one a run resumes from, and that none is overwritten."""

import os
import shlex
import sys
import time
from pathlib import Path

from mmengine.config import Config

from ..checkpoint_files import newest_intact, no_checkpoint, require_intact
from ..datasets.files import listed

# Where launchers give the rank of a process.
RANKS = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')


def prepare_resume(cfg: Config) -> None:
    """Find the checkpoint to resume from, and refuse to overwrite those of another run.

    ``load_from`` of the config is changed in place. Without a named checkpoint the choice is left
    to :class:`~mmselfsup_invp.engine.hooks.CheckpointHook`, which makes it for all processes.
    """
    folder, resume = Path(cfg.work_dir), cfg.get('resume')
    if resume and not cfg.get('load_from'):
        return
    if resume:
        cfg.load_from = find_checkpoint(cfg.load_from, folder)
    if is_first_process(cfg.get('launcher', 'none')):
        # The folder of other processes may be on another disk; one message is enough.
        refuse_other_run(folder, cfg.load_from if resume else None)


def is_first_process(launcher: str) -> bool:
    """Whether this process has rank 0, before the process group exists."""
    ranks = [os.environ[name] for name in RANKS if name in os.environ]
    return launcher == 'none' or not ranks or int(ranks[0]) == 0


def find_checkpoint(name: str, folder: Path) -> str:
    """Path of an intact checkpoint, named by a path or by its name in the work folder."""
    if '://' in name:  # MMEngine downloads it.
        return name
    for path in (Path(name), folder / name):
        if path.is_file():
            require_intact(path)
            return str(path)
    raise FileNotFoundError(no_checkpoint(folder / name))


def refuse_other_run(folder: Path, resumed: str | None = None) -> None:
    """Raise ``FileExistsError`` if a run would overwrite the checkpoints of another one."""
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
    checkpoint, _ = newest_intact(Path(cfg.work_dir))
    if checkpoint is None:
        hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
        return (
            f'Interrupted. {cfg.work_dir} has no checkpoint yet '
            f'(default_hooks.checkpoint.interval = {hook.get("interval", 1)}), so the run cannot '
            'be resumed.'
        )
    found = f'Interrupted. The latest checkpoint is {checkpoint}. To resume'
    if cfg.get('launcher', 'none') != 'none':
        return f'{found}, start the processes again with --resume.'
    if Path(sys.argv[0]).stem != 'train':  # Started from Python.
        return f'{found}: mmselfsup_invp.train(..., {str(cfg.work_dir)!r}, resume=True).'
    words = [sys.executable, *sys.argv]
    command = shlex.join(words if words[-1] == '--resume' else [*words, '--resume'])
    return f'{found}:\n{command}'
