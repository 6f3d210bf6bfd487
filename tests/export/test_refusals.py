"""Other networks than ResNets, and damaged weights."""

import pytest
import torch
from torch import Tensor

from mmselfsup_invp.export import export_backbone

from .checkpoints import save_checkpoint


class TestOtherNetworks:
    def test_a_cifar_stem_is_named(self, tmp_path):
        path, _ = save_checkpoint(tmp_path / 'e.pth', type='mmcls.ResNet_CIFAR', depth=18)
        with pytest.raises(ValueError, match='ResNet_CIFAR of depth 18 with a 3x3 stem') as caught:
            export_backbone(path, 'torchvision')
        assert "stem = '3x3'; torchvision takes" in str(caught.value)
        assert 'stem 7x7' in str(caught.value) and 'No target takes it' in str(caught.value)

    @pytest.mark.parametrize(
        ('change', 'message'),
        [
            (dict(deep_stem=True), "stem = 'deep'; mmdet takes stem 7x7"),
            (dict(norm_cfg=dict(type='GN', num_groups=4)), "norm = 'GN'; mmdet takes norm BN"),
            (dict(avg_down=True), 'avg_down = True; mmdet takes avg_down False'),
        ],
    )
    def test_other_forms_are_named(self, tmp_path, change, message):
        path, _ = save_checkpoint(tmp_path / 'e.pth', depth=18, **change)
        with pytest.raises(ValueError, match=f'{message}.*No target takes it.'):
            export_backbone(path, 'mmdet')

    def test_what_is_no_resnet_is_named(self, tmp_path):
        path, _ = save_checkpoint(tmp_path / 'e.pth', type='AlexNetBN')
        with pytest.raises(
            ValueError, match="this checkpoint: AlexNetBN. Found type = 'AlexNetBN'"
        ):
            export_backbone(path, 'torchvision')

    def test_an_unknown_class_is_named(self, small, tmp_path):
        checkpoint = torch.load(small)
        checkpoint['meta']['cfg'] = checkpoint['meta']['cfg'].replace("'ResNet'", "'OwnNet'")
        torch.save(checkpoint, tmp_path / 'e.pth')
        with pytest.raises(ValueError, match='e.pth cannot be built: .*OwnNet is not in the'):
            export_backbone(tmp_path / 'e.pth', 'torchvision')


def without_bn1(state: dict[str, Tensor]) -> None:
    del state['backbone.bn1.bias'], state['backbone.bn1.weight']


def with_another(state: dict[str, Tensor]) -> None:
    state['backbone.layer9.weight'] = torch.zeros(1)


def reshaped(state: dict[str, Tensor]) -> None:
    state['backbone.bn1.bias'] = torch.zeros(3)


def broken(state: dict[str, Tensor]) -> None:
    state['backbone.layer1.0.conv1.weight'][0, 0] = float('nan')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (without_bn1, r'its own config. missing: bn1.bias, bn1.weight\.'),
        (with_another, r'its own config. unexpected: layer9.weight\.'),
        (reshaped, r'of another shape: bn1.bias \(3,\) for \(64,\)\.'),
        (broken, r'NaN or infinite values in layer1.0.conv1.weight\.'),
    ],
)
def test_damaged_weights_are_refused(small, tmp_path, change, message):
    checkpoint = torch.load(small)
    change(checkpoint['state_dict'])
    torch.save(checkpoint, tmp_path / 'e.pth')
    with pytest.raises(ValueError, match=message):
        export_backbone(tmp_path / 'e.pth', 'torchvision')
    assert [path.name for path in tmp_path.iterdir()] == ['e.pth']
