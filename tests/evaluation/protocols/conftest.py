import pytest

from mmselfsup_invp.evaluation import read_backbone

from ...toy import build_runner, image_folder


@pytest.fixture(scope='session')
def root(tmp_path_factory):
    return image_folder(tmp_path_factory.mktemp('images') / 'data', images=36)


@pytest.fixture(scope='session')
def backbone(root):
    """A checkpoint of two epochs of pre-training."""
    hooks = dict(checkpoint=dict(type='CheckpointHook', interval=2))
    build_runner(root, root.parent / 'run', 2, default_hooks=hooks).train()
    return read_backbone(root.parent / 'run' / 'epoch_2.pth')
