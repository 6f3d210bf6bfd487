"""Benchmarks that train and test a detector of mmdet."""

from ..detection import run_detection
from .job import Job, Outcome


def run_detector(job: Job, launcher: str = 'none') -> Outcome:
    """Fine-tune the detector of the config, or go on with it, and test it; in percent.

    The test is at the end alone, so that there is no best value on the way.

    Args:
        job (Job): What is done.
        launcher (str): What started the processes; see :func:`~.run_detection`.
    """
    figures = run_detection(
        job.backbone.path,
        job.config,
        job.work_dir,
        options={'randomness.seed': job.seed},
        random_init=job.random_init,
        launcher=launcher,
    )
    loop = job.config.train_cfg
    length = loop.max_epochs if 'max_epochs' in loop else f'{loop.max_iters} iterations'
    return Outcome(figures[job.benchmark.metric], best=None, epochs=length, figures=figures)
