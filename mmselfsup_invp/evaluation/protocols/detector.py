"""Benchmarks that train and test a detector of mmdet."""

from ..detection import run_detection
from .job import Job, Outcome


def run_detector(job: Job) -> Outcome:
    """Fine-tune the detector of the config, or go on with it, and test it; in percent."""
    figures = run_detection(
        job.backbone.path,
        job.config,
        job.work_dir,
        options={'randomness.seed': job.seed},
        random_init=job.random_init,
        launcher=job.config.get('launcher', 'none'),
    )
    value = figures[job.benchmark.metric]
    return Outcome(last=value, best=value, epochs=0, figures=figures)
