"""Benchmarks that train and test a detector of mmdet."""

from dataclasses import dataclass

from ..detection import METRICS, run_detection
from .job import Job, Outcome


@dataclass(frozen=True)
class Detection:
    """Fine-tune the detector of the config, or continue that, and test it; in percent.

    It is tested at the end only, so that there is no best value over the epochs.
    """

    def metrics(self) -> list[str]:
        return list(METRICS)

    def __call__(self, job: Job) -> Outcome:
        metrics = run_detection(
            job.backbone.path,
            job.config,
            job.work_dir,
            options={'randomness.seed': job.seed},
            random_init=job.random_init,
            launcher=job.launcher,
        )
        loop = job.config.train_cfg
        epochs = loop.max_epochs if 'max_epochs' in loop else f'{loop.max_iters} iterations'
        return Outcome(metrics[job.benchmark.metric], best=None, epochs=epochs, metrics=metrics)
