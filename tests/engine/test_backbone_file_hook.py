"""The file with the backbone that a run writes at its end."""

import shutil

import torch
from mmengine.registry import MODELS

from .. import toy

HOOK = dict(backbone_file=dict(type='BackboneFileHook'))


def train(images, work_dir, epochs=1, **checkpoint):
    hooks = dict(HOOK, checkpoint={'interval': 1, **checkpoint})
    return toy.build_runner(images, work_dir, epochs, default_hooks=hooks).train()


def read(path):
    """As the scripts of the hosts do with PyTorch 2.6 or newer."""
    return torch.load(path, map_location='cpu', weights_only=True)['state_dict']


def test_it_holds_the_last_backbone_for_configs_of_the_host(images, tmp_path):
    backbone = train(images, tmp_path, epochs=2).backbone
    path = tmp_path / 'backbone.pth'
    weights = read(path)
    expected = {f'backbone.{name}': value for name, value in backbone.state_dict().items()}
    torch.testing.assert_close(weights, expected, rtol=0, atol=0)
    init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    other = MODELS.build(dict(toy.model_config()['backbone'], init_cfg=init_cfg))
    other.init_weights()
    torch.testing.assert_close(other.state_dict(), backbone.state_dict(), rtol=0, atol=0)


def test_a_resumed_run_replaces_it(images, tmp_path):
    train(images, tmp_path)
    before = read(tmp_path / 'backbone.pth')
    hooks = dict(HOOK, checkpoint=dict(interval=1))
    toy.build_runner(images, tmp_path, 2, default_hooks=hooks, resume=True).train()
    after = read(tmp_path / 'backbone.pth')
    assert not torch.equal(before['backbone.conv1.weight'], after['backbone.conv1.weight'])


def test_a_run_without_a_checkpoint_writes_none(images, tmp_path):
    train(images, tmp_path, interval=-1, save_last=False)
    assert not list(tmp_path.glob('*.pth'))


def test_a_failure_is_reported_and_ends_no_run(images, tmp_path):
    (tmp_path / 'backbone.pth').mkdir()  # No file can have that name.
    runner = toy.build_runner(
        images, tmp_path, 1, default_hooks=dict(HOOK, checkpoint=dict(interval=1))
    )
    messages = []
    runner.logger.warning = messages.append
    runner.train()
    assert any('The backbone was not written to' in message for message in messages)
    assert (tmp_path / 'epoch_1.pth').is_file()


def test_a_copied_run_writes_into_its_own_folder(images, tmp_path):
    """Its checkpoint has the path of the former folder."""
    train(images, tmp_path / 'former', epochs=1)
    shutil.copytree(tmp_path / 'former', tmp_path / 'copy')
    for folder in ('former', 'copy'):
        (tmp_path / folder / 'backbone.pth').unlink()
    hooks = dict(HOOK, checkpoint=dict(interval=1))
    toy.build_runner(images, tmp_path / 'copy', 1, default_hooks=hooks, resume=True).train()
    assert (tmp_path / 'copy' / 'backbone.pth').is_file()
    assert not (tmp_path / 'former' / 'backbone.pth').exists()
