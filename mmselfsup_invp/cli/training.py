"""A training run as ``tools/train.py`` starts it."""

from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path

from mmengine.config import Config

from ..config_checks import check_config
from ..engine.console import ConciseRunner
from . import images
from .errors import was_interrupted
from .launching import process_group
from .lock import work_folder_lock
from .options import read_run_config
from .trackers import add_tracker
from .work_folder import is_first_process, prepare_resume, resume_instructions


def load_config(args: Namespace) -> Config:
    """Read the config and apply the arguments of ``tools/train.py``."""
    if args.images:
        images.use_images(args)
    cfg = read_run_config(args)
    if args.images:
        cfg = images.named(cfg, args.work_dir)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        config = Path(args.config)
        cfg.work_dir = str(Path('work_dirs') / config.parent.name / config.stem)
    if args.amp:
        _enable_amp(cfg)
    if args.auto_scale_lr:
        _enable_lr_scaling(cfg)
    for tracker in args.log_to or ():
        add_tracker(cfg, tracker)
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    return cfg


def _enable_amp(cfg: Config) -> None:
    wrapper = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if wrapper not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise ValueError(
            f'--amp works with OptimWrapper, the config has optim_wrapper.type = {wrapper!r}.'
        )
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def _enable_lr_scaling(cfg: Config) -> None:
    if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
        raise ValueError(
            '--auto-scale-lr needs auto_scale_lr.base_batch_size, the batch size of all processes '
            'for which the learning rate of the config was chosen. Set it by '
            '--cfg-options auto_scale_lr.base_batch_size=N.'
        )
    cfg.auto_scale_lr.enable = True


def train(cfg: Config) -> None:
    """Train; an interrupt is reported with the command that resumes the run."""
    check_config(cfg)
    first = is_first_process(cfg.get('launcher', 'none'))
    lock = work_folder_lock(Path(cfg.work_dir)) if first else nullcontext()
    with process_group(cfg), lock:
        prepare_resume(cfg)
        try:
            ConciseRunner.from_cfg(cfg).train()
        except BaseException as error:
            if not was_interrupted(error):
                raise
            raise KeyboardInterrupt(resume_instructions(cfg)) from error
