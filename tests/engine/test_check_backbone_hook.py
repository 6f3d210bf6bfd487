from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from mmselfsup_invp.engine.hooks import CheckBackboneHook

from .. import toy


@pytest.fixture(scope='module')
def trained(images, tmp_path_factory):
    """A model and its checkpoint."""
    folder = tmp_path_factory.mktemp('run')
    hooks = dict(checkpoint=dict(interval=1))
    model = toy.build_runner(images, folder, 1, default_hooks=hooks).train()
    return model, str(folder / 'epoch_1.pth')


def check(model, iteration=0, **init_cfg):
    backbone = dict(init_cfg=dict(type='Pretrained', **init_cfg)) if init_cfg else {}
    cfg = Config(dict(model=dict(backbone=backbone)))
    CheckBackboneHook().before_train(SimpleNamespace(cfg=cfg, iter=iteration, model=model))


def test_a_network_with_the_weights_of_its_checkpoint_passes(trained):
    model, checkpoint = trained
    check(model, checkpoint=checkpoint, prefix='backbone.')


def test_a_network_with_other_weights_is_refused(trained):
    model, checkpoint = trained
    other = toy.build_model(toy.model_config())
    other.load_state_dict(model.state_dict(), strict=False)
    with torch.no_grad():
        other.backbone.conv1.weight[0] += 1
    with pytest.raises(ValueError, match=r'conv1\.weight'):
        check(other, checkpoint=checkpoint, prefix='backbone.')
    # A resumed run has moved on.
    check(other, iteration=1, checkpoint=checkpoint, prefix='backbone.')


@pytest.mark.parametrize('init_cfg', [{}, dict(checkpoint='torchvision://resnet50', prefix=None)])
def test_other_kinds_of_weights_are_not_checked(trained, init_cfg):
    check(trained[0], **init_cfg)
