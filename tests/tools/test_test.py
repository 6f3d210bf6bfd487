"""What is measured is the checkpoint, or nothing."""

from argparse import Namespace

import pytest
import torch
from mmengine.config import Config

from mmselfsup_invp.cli.errors import plain_errors
from mmselfsup_invp.cli.testing import load_config
from mmselfsup_invp.cli.testing import test as evaluate

from .. import toy
from ..engine.recording import scalars


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
def tool(project, tmp_path):
    """Evaluate as the command line does; returns the log."""

    def call(checkpoint=None, config='toy.py', **options):
        args = Namespace(
            config=str(project / config),
            checkpoint=checkpoint and str(checkpoint),
            work_dir=str(tmp_path / 'test'),
            launcher='none',
            cfg_options={name.replace('__', '.'): value for name, value in options.items()},
        )
        evaluate(load_config(args))
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
        (dict(model__backbone__depth='34'), 'not in the checkpoint: backbone.layer1.2'),
        (dict(model__backbone__base_channels='4'), 'of another shape: backbone.layer1'),
        (dict(model__neck__hid_channels='8'), 'of another shape: neck'),
    ],
)
def test_another_network_is_refused(tool, project, option, message):
    with pytest.raises(ValueError, match=f'epoch_1.pth is not a checkpoint of this .*{message}'):
        tool(project / 'work' / 'epoch_1.pth', **option)


def test_for_the_backbone_alone_the_rest_may_differ(tool, project):
    options = dict(default_hooks__knn__gallery='backbone', model__neck__hid_channels='8')
    log = tool(project / 'work' / 'epoch_1.pth', **options)
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
