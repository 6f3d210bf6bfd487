import pytest
from mmengine.config import Config

from mmselfsup_invp.cli import trackers


@pytest.fixture
def cfg():
    backends = [dict(type='LocalVisBackend')]
    return Config(dict(work_dir='runs/one', visualizer=dict(vis_backends=backends)))


def test_trackers_are_added_to_the_files_of_the_run(cfg, monkeypatch):
    monkeypatch.setattr(trackers, 'find_spec', lambda name: object())
    for name in ('tensorboard', 'wandb'):
        trackers.add_tracker(cfg, name)
    types = [backend.type for backend in cfg.visualizer.vis_backends]
    assert types == ['LocalVisBackend', 'TensorboardVisBackend', 'WandbVisBackend']
    assert cfg.visualizer.vis_backends[2].init_kwargs.name == 'one'


def test_a_missing_package_is_named(cfg, monkeypatch):
    monkeypatch.setattr(trackers, 'find_spec', lambda name: None)
    with pytest.raises(ValueError, match='--log-to wandb needs a package: pip install wandb'):
        trackers.add_tracker(cfg, 'wandb')
