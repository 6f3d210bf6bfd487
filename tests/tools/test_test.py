"""What is measured is the checkpoint, or nothing."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmselfsup_invp.cli.errors import plain_errors

from .. import toy
from ..engine.recording import scalars

SCRIPT = Path(__file__).resolve().parents[2] / 'tools' / 'test.py'


@pytest.fixture(scope='module')
def project(images, tmp_path_factory):
    """A config with the kNN of both galleries, and an epoch by it."""
    root = tmp_path_factory.mktemp('project')
    hook = dict(
        type='KNNEvalHook',
        gallery=['bank', 'backbone'],
        k=5,
        query_dataloader=toy.loader(images, 'test'),
        gallery_dataloader=toy.loader(images, 'train'),
    )
    hooks = dict(knn=hook, checkpoint=dict(interval=1))
    cfg = toy.runner_config(images, root / 'work', 1, default_hooks=hooks)
    cfg.pop('experiment_name')
    cfg.dump(root / 'toy.py')
    toy.build_runner(images, root / 'work', 1, default_hooks=hooks).train()
    return root


@pytest.fixture
def tool(monkeypatch, project, tmp_path):
    """Run the command line in this process; give what it printed back."""
    spec = importlib.util.spec_from_file_location('test_tool', SCRIPT)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setenv('LOCAL_RANK', '0')

    def call(*words, config='toy.py'):
        command = ['test.py', str(project / config), *map(str, words)]
        monkeypatch.setattr(sys, 'argv', [*command, '--work-dir', str(tmp_path / 'test')])
        tool.test(tool.load_config(tool.parse_args()))
        (log,) = (tmp_path / 'test').glob('*/*.log')
        return log.read_text()

    return call


def test_a_checkpoint_gives_the_figures_of_its_run(tool, project, tmp_path):
    log = tool(project / 'work' / 'epoch_1.pth')
    assert 'knn/bank_k5_t0.07: ' in log and 'knn/backbone_k5_t0.07: ' in log
    (figures,) = scalars(tmp_path / 'test', 'knn').values()
    assert figures == scalars(project / 'work', 'knn')[1]


def test_without_a_checkpoint_the_network_is_evaluated_as_initialised(tool, tmp_path):
    """By what needs no bank, which is there after training alone."""
    assert "The bank is empty: gallery 'bank' is left out" in tool()
    (figures,) = scalars(tmp_path / 'test', 'knn').values()
    assert list(figures) == ['knn/backbone_k5_t0.07']


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('model.backbone.depth=34', 'not in the checkpoint: backbone.layer1.2'),
        ('model.backbone.base_channels=4', 'of another shape: backbone.layer1'),
        ('model.neck.hid_channels=8', 'of another shape: neck'),
    ],
)
def test_another_network_is_refused(tool, project, option, message):
    with pytest.raises(ValueError, match=f'epoch_1.pth is not a checkpoint of this .*{message}'):
        tool(project / 'work' / 'epoch_1.pth', '--cfg-options', option)


def test_for_the_backbone_alone_the_rest_may_differ(tool, project):
    options = ['default_hooks.knn.gallery=backbone', 'model.neck.hid_channels=8']
    log = tool(project / 'work' / 'epoch_1.pth', '--cfg-options', *options)
    assert 'knn/backbone_k5' in log


def test_an_exported_backbone_is_refused(tool, project, tmp_path):
    state = torch.load(project / 'work' / 'epoch_1.pth')['state_dict']
    bare = {name.removeprefix('backbone.'): value for name, value in state.items()}
    torch.save(bare, tmp_path / 'bare.pth')
    with pytest.raises(ValueError, match='bare.pth has no "state_dict"'):
        tool(tmp_path / 'bare.pth')
    torch.save(dict(state_dict=bare), tmp_path / 'bare.pth')
    with pytest.raises(ValueError, match='not in the checkpoint: backbone.bn1.bias'):
        tool(tmp_path / 'bare.pth')


def test_a_missing_checkpoint_comes_before_the_runner(tool, project, tmp_path, capsys):
    with pytest.raises(SystemExit), plain_errors():
        tool(project / 'work' / 'epoch_2.pth')
    assert 'epoch_2.pth. In that folder: epoch_1.pth.' in capsys.readouterr().err
    assert not (tmp_path / 'test').exists()


def test_a_config_that_measures_nothing_is_told_where_to_read(tool, project):
    cfg = Config.fromfile(project / 'toy.py')
    cfg.default_hooks.pop('knn')
    cfg.dump(project / 'bare.py')
    with pytest.raises(ValueError, match=r'default_hooks.knn.* docs/en/own_data.md'):
        tool(config='bare.py')
