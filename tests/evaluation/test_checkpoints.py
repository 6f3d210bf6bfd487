import dataclasses

import pytest
import torch

from mmselfsup_invp.compat.host import MODELS
from mmselfsup_invp.evaluation import read_backbone

from ..toy import build_runner, image_folder


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A run of one epoch, and where its checkpoint lies."""
    root = tmp_path_factory.mktemp('run')
    hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
    runner = build_runner(image_folder(root / 'data'), root / 'work', 1, default_hooks=hooks)
    runner.train()
    return runner, root / 'work' / 'epoch_1.pth'


def test_weights_and_config_are_those_of_the_run(run):
    runner, path = run
    found = read_backbone(path)
    expected = runner.model.backbone.state_dict()
    assert found.state.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found.state[name], value)
    assert found.config['type'] == 'mmcls.ResNet_CIFAR' and found.epoch == 1
    assert found.preprocessor['mean'] == [127.5] * 3


@pytest.mark.parametrize('random_init', [False, True])
def test_the_backbone_can_be_built_again(run, random_init):
    runner, path = run
    backbone = MODELS.build(read_backbone(path).build_config(random_init))
    backbone.init_weights()
    images = torch.rand(2, 3, 16, 16)
    backbone.eval(), runner.model.eval()
    same = torch.equal(backbone(images)[-1], runner.model.backbone(images)[-1])
    assert same is not random_init


def test_a_missing_file_is_named_with_those_that_are_there(run):
    with pytest.raises(FileNotFoundError, match='epoch_9.pth. In that folder: epoch_1.pth'):
        read_backbone(run[1].with_name('epoch_9.pth'))


def without(key):
    def change(checkpoint):
        del checkpoint[key]

    return change


def without_backbone(checkpoint):
    for name in [name for name in checkpoint['state_dict'] if name.startswith('backbone.')]:
        del checkpoint['state_dict'][name]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (without('state_dict'), 'has no "state_dict"'),
        (without('meta'), 'does not hold the config of its run'),
        (without_backbone, r'no weights named "backbone...."\. Found \(tensors\): neck'),
    ],
)
def test_other_checkpoints_are_refused(run, tmp_path, change, message):
    checkpoint = torch.load(run[1], weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=message):
        read_backbone(tmp_path / 'other.pth')


class Executed:
    """Writes a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), 'w')


def set_config(text):
    def change(checkpoint, file):
        checkpoint['meta']['cfg'] = text.format(file=file)

    return change


def set_pickle(checkpoint, file):
    checkpoint['meta']['author'] = Executed(file)


HOSTILE = {
    'statement': set_config("open('{file}', 'w')"),
    'value': set_config("model = dict(backbone=dict(type=open('{file}', 'w')))"),
    'base': set_config("_base_ = '{file}'\nimport os"),
    'type': set_config(
        "model = dict(backbone=dict(type='builtins.open', file='{file}', mode='w'))"
    ),
    'inner type': set_config(
        "model = dict(backbone=dict(type='ResNet', "
        "norm_cfg=dict(type='builtins.open', file='{file}', mode='w')))"
    ),
    'pickle': set_pickle,
    'no model': set_config('model = 3'),
    'no backbone': set_config("model = dict(backbone='ResNet')"),
    'meta': lambda checkpoint, file: checkpoint.update(meta=[1]),
    'binary config': lambda checkpoint, file: checkpoint['meta'].update(cfg=b'model = dict()'),
}


@pytest.mark.parametrize('name', HOSTILE)
def test_a_hostile_checkpoint_is_refused_and_nothing_is_executed(run, tmp_path, name):
    checkpoint = torch.load(run[1], weights_only=True)
    HOSTILE[name](checkpoint, tmp_path / 'executed')
    torch.save(checkpoint, tmp_path / 'hostile.pth')
    with pytest.raises(ValueError, match=r'hostile\.pth'):
        read_backbone(tmp_path / 'hostile.pth')
    assert not (tmp_path / 'executed').exists()


@pytest.mark.parametrize('content', [b'', b'text', b'PK\x03\x04 cut short'])
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    (tmp_path / 'broken.pth').write_bytes(content)
    with pytest.raises(ValueError, match='broken.pth (cannot be read: it|is truncated)') as raised:
        read_backbone(tmp_path / 'broken.pth')
    assert 'weights_only' not in str(raised.value)


def test_a_fingerprint_is_that_of_the_weights_and_not_of_the_file(run, tmp_path):
    one = read_backbone(run[1])
    checkpoint = torch.load(run[1], weights_only=True)
    torch.save(checkpoint, tmp_path / 'copy.pth')
    assert read_backbone(tmp_path / 'copy.pth').fingerprint() == one.fingerprint()

    checkpoint['state_dict']['backbone.conv1.weight'][0, 0, 0, 0] += 1e-3
    torch.save(checkpoint, tmp_path / 'copy.pth')
    other = read_backbone(tmp_path / 'copy.pth')
    assert other.fingerprint() != one.fingerprint()
    assert other.fingerprint(random_init=True) == one.fingerprint(random_init=True)
    assert one.fingerprint(random_init=True) != one.fingerprint()


def test_a_fingerprint_is_that_of_the_network_and_its_pixels(run):
    one = read_backbone(run[1])
    for change in (dict(config=dict(one.config, depth=34)), dict(preprocessor={})):
        other = dataclasses.replace(one, **change)
        assert other.fingerprint(random_init=True) != one.fingerprint(random_init=True)
