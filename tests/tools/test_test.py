import runpy
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from .. import toy
from ..engine.recording import log_text, scalars

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'test.py'


@pytest.fixture
def test_tool(monkeypatch, tmp_path):
    """Run the command line in this process; gives the figures and the log."""

    def test_tool(*words: object) -> tuple[dict[str, float], str]:
        work_dir = tmp_path / 'test'
        monkeypatch.setenv('LOCAL_RANK', '0')
        monkeypatch.setattr(sys, 'argv', ['test.py', *map(str, words), '--work-dir', str(work_dir)])
        runpy.run_path(str(TOOL), run_name='__main__')
        (figures,) = scalars(work_dir, 'knn').values()
        return figures, log_text(work_dir)

    return test_tool


@pytest.fixture
def config(images, tmp_path) -> Path:
    """A config file for a run that saves itself."""
    knn = dict(
        type='KNNEvalHook',
        gallery=['bank', 'backbone'],
        query_dataloader=toy.loader(images, 'test'),
        gallery_dataloader=toy.loader(images, 'train'),
        k=7,
    )
    hooks = [dict(type='PropagationMemoryHook'), knn]
    checkpoint = dict(checkpoint=dict(interval=1))
    whole = toy.runner_config(
        images, tmp_path / 'run', 1, custom_hooks=hooks, default_hooks=checkpoint
    )
    whole.dump(tmp_path / 'toy.py')
    return tmp_path / 'toy.py'


def test_a_checkpoint_gives_the_figures_of_its_run(test_tool, config, tmp_path):
    cfg = Config.fromfile(config)
    cfg.experiment_name += '-trained'  # The host keeps loggers by this name.
    Runner.from_cfg(cfg).train()
    figures, _ = test_tool(config, tmp_path / 'run' / 'epoch_1.pth')
    assert figures == scalars(tmp_path / 'run', 'knn')[1]
    assert list(figures) == ['knn/bank_k7_t0.07', 'knn/backbone_k7_t0.07']


def test_without_a_checkpoint_the_network_is_evaluated_as_initialised(test_tool, config):
    """By what needs no bank, which is there after training alone."""
    figures, log = test_tool(config)
    assert list(figures) == ['knn/backbone_k7_t0.07']
    assert "The bank is empty: gallery 'bank' is left out" in log
