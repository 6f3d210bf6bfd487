import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
import torchvision

from mmselfsup_invp.export import TARGETS

from ..export.checkpoints import save_checkpoint
from ..toy import build_runner

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'export.py'


@pytest.fixture
def export(monkeypatch, capsys):
    """Run the command line in this process; gives what it prints."""

    def export(*words: object) -> str:
        monkeypatch.setattr(sys, 'argv', ['export.py', *map(str, words)])
        runpy.run_path(str(TOOL), run_name='__main__')
        return capsys.readouterr().out

    return export


@pytest.fixture
def error(export, capsys):
    """Run the command line and return the message of its error."""

    def error(*words: object) -> str:
        with pytest.raises(SystemExit):
            export(*words)
        return capsys.readouterr().err

    return error


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp('tool') / 'epoch_7.pth', depth=18)[0]


def test_the_file_and_the_code_that_loads_it_are_printed(export, checkpoint, tmp_path):
    path = tmp_path / 'deep' / 'r18.pth'
    printed = export(checkpoint, '--to', 'torchvision', '--out', path)
    assert f'Written:   {path} (120 tensors, 11,186,132 values)' in printed
    assert 'Network:   ResNet of depth 18 with a 7x7 stem' in printed
    assert '7 epochs of invp_tiny' in printed
    assert "equal forward passes of torchvision's resnet18 and of the checkpoint" in printed
    assert 'largest difference' in printed
    assert 'RGB, 0 to 255, minus [123.675, 116.28, 103.53], divided by [58.395' in printed
    _, lines = printed.split('Load it by\n')
    names = dict(torch=torch, torchvision=torchvision)
    exec('\n'.join(line.strip() for line in lines.splitlines()), names)
    own = torch.load(checkpoint)['state_dict']
    assert torch.equal(names['model'].bn1.running_var, own['backbone.bn1.running_var'])


def test_settings_of_detectron2(export, checkpoint):
    printed = export(checkpoint, '--to', 'detectron2', '--force')
    assert "under the names that Detectron2's converter gives its weights; largest" in printed
    assert f'cfg.MODEL.WEIGHTS = {str(checkpoint.with_name("epoch_7_detectron2.pkl"))!r}' in printed


def test_an_existing_file_needs_force(export, error, checkpoint):
    export(checkpoint, '--to', 'torchvision')
    message = error(checkpoint, '--to', 'torchvision')
    assert re.search('epoch_7_torchvision.pth exists. .*--force', message)
    assert 'Written' in export(checkpoint, '--to', 'torchvision', '--force')


def test_errors_are_one_message(error, checkpoint, tmp_path):
    assert 'There is no checkpoint' in error(checkpoint.with_name('epoch_9.pth'), '--to', 'timm')
    message = error(checkpoint, '--to', 'detectron2', '--out', tmp_path / 'r18.pth')
    assert 'must end in .pkl for detectron2' in message
    assert 'torchvision' in error(checkpoint, '--to', 'onnx')


def test_the_targets_are_those_of_the_package(error, checkpoint):
    choices = re.search(r'choose from (.*)\)', error(checkpoint, '--to', 'onnx'))[1]
    assert re.findall(r'\w+', choices) == [*TARGETS]


def test_a_real_run_with_a_cifar_stem(export, error, images, tmp_path):
    hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
    build_runner(images, tmp_path / 'work', 1, default_hooks=hooks).train()
    run = tmp_path / 'work' / 'epoch_1.pth'
    assert 'ResNet_CIFAR of depth 18 with a 3x3 stem of 8 channels' in error(run, '--to', 'mmdet')
    assert 'Use --to mmselfsup.' in error(run, '--to', 'mmdet')
    assert 'largest difference 0\n' in export(run, '--to', 'mmselfsup')


@pytest.mark.detection
def test_a_real_run_is_exported(export, images, tmp_path):
    """From the file that MMEngine's runner writes to the features of MMDetection's network."""
    backbone = dict(type='ResNet', depth=18, base_channels=8, stem_channels=8)
    model = dict(backbone=backbone, neck=dict(in_channels=64))
    hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
    build_runner(images, tmp_path / 'work', 1, model=model, default_hooks=hooks).train()
    printed = export(tmp_path / 'work' / 'epoch_1.pth', '--to', 'mmdet')
    assert "equal forward passes of mmdet's ResNet-18" in printed and '1 epochs' in printed
    written = torch.load(tmp_path / 'work' / 'epoch_1_mmdet.pth')
    trained = torch.load(tmp_path / 'work' / 'epoch_1.pth')['state_dict']
    for name, value in written['state_dict'].items():
        assert torch.equal(value, trained[f'backbone.{name}'])
    assert written['meta']['epochs'] == 1 and written['meta']['mean'] == [127.5] * 3
