import pytest
import torch
from torch import Tensor

from mmselfsup_invp.export import TARGETS, export_backbone
from mmselfsup_invp.export.targets import Target

from .checkpoints import save_checkpoint

ANY_TARGET = [
    pytest.param(name, marks=pytest.mark.detection) if name == 'mmdet' else name for name in TARGETS
]


class TestFiles:
    @pytest.mark.parametrize('to', ANY_TARGET)
    def test_lie_beside_the_checkpoint_and_are_not_replaced(self, small, to):
        path = export_backbone(small, to, force=True).path
        assert path == small.with_name(f'epoch_7_{to}{TARGETS[to].suffix}')
        before = path.stat().st_mtime_ns
        with pytest.raises(FileExistsError, match=f'{path.name} exists.*--force'):
            export_backbone(small, to)
        assert path.stat().st_mtime_ns == before
        export_backbone(small, to, force=True)
        assert path.stat().st_mtime_ns > before
        assert not list(small.parent.glob('.*'))

    def test_an_unfit_name_is_refused(self, small, tmp_path):
        with pytest.raises(ValueError, match=r'r.pth, must end in .pkl for detectron2'):
            export_backbone(small, 'detectron2', tmp_path / 'r.pth')
        with pytest.raises(ValueError, match='is the checkpoint itself'):
            export_backbone(small, 'timm', small, force=True)

    def test_an_unknown_target_is_named(self, small):
        with pytest.raises(ValueError, match="target 'onnx'. Valid are torchvision, timm"):
            export_backbone(small, 'onnx')

    def test_a_file_that_fails_is_not_kept(self, small, tmp_path, monkeypatch):
        def swapped(self: Target, name: str) -> str:
            blocks = {'layer1.0.': 'layer1.1.', 'layer1.1.': 'layer1.0.'}
            return blocks.get(name[:9], name[:9]) + name[9:]

        monkeypatch.setattr(type(TARGETS['torchvision']), 'rename', swapped)
        old = tmp_path / 'r.pth'
        old.write_bytes(b'old')
        with pytest.raises(ValueError, match='gives other features in layer1'):
            export_backbone(small, 'torchvision', old, force=True)
        assert old.read_bytes() == b'old' and list(tmp_path.iterdir()) == [old]


class TestOtherNetworks:
    def test_a_cifar_stem_is_named(self, tmp_path):
        path, _ = save_checkpoint(tmp_path / 'e.pth', type='mmcls.ResNet_CIFAR', depth=18)
        with pytest.raises(ValueError, match='ResNet_CIFAR of depth 18 with a 3x3 stem') as caught:
            export_backbone(path, 'torchvision')
        assert "stem = '3x3'; supported: " in str(caught.value)
        assert 'stem 7x7' in str(caught.value) and 'Use --to mmselfsup.' in str(caught.value)

    @pytest.mark.parametrize(
        ('change', 'message'),
        [
            (dict(deep_stem=True), "stem = 'deep'; supported: stem 7x7"),
            (dict(norm_cfg=dict(type='GN', num_groups=4)), "norm = 'GN'; supported: norm BN"),
            (dict(avg_down=True), 'avg_down = True; supported: avg_down False'),
        ],
    )
    def test_other_forms_are_named(self, tmp_path, change, message):
        path, _ = save_checkpoint(tmp_path / 'e.pth', depth=18, **change)
        with pytest.raises(ValueError, match=f'{message}.*Use --to mmselfsup.'):
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
        (without_bn1, r'e.pth does not hold the weights.*\s+Missing.*"bn1.weight", "bn1.bias"'),
        (with_another, r'e.pth does not hold the weights.*\s+Unexpected.*"layer9.weight"'),
        (reshaped, r'size mismatch for bn1.bias: .*\[3\].*\[64\]'),
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
