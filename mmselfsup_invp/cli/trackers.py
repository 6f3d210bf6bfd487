"""TensorBoard and Weights & Biases: where a run logs beside its own files."""

from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config


def add_tracker(cfg: Config, name: str) -> None:
    """Add the visualization backend ``tensorboard`` or ``wandb``, if installed, to a config."""
    if find_spec(name) is None:
        raise ValueError(f'--log-to {name} needs a package: pip install {name}')
    backends = dict(
        tensorboard=dict(type='TensorboardVisBackend'),
        wandb=dict(
            type='WandbVisBackend',
            init_kwargs=dict(project='mmselfsup_invp', name=Path(cfg.work_dir).name),
        ),
    )
    cfg.visualizer.vis_backends = [*cfg.visualizer.vis_backends, backends[name]]
