import pytest
import torch
import torchvision
from torch import nn

from mmselfsup_invp.export import export_backbone
from mmselfsup_invp.export.targets import state_dict

from .checkpoints import IMAGES, MEAN, STD, last_map


class TestTorchvision:
    def test_its_network_gives_the_same_features(self, trained, tmp_path):
        path, backbone = trained
        export = export_backbone(path, 'torchvision', tmp_path / 'r.pth')
        model = torchvision.models.get_model(f'resnet{backbone.depth}')
        keys = model.load_state_dict(torch.load(export.path), strict=False)
        assert keys.missing_keys == ['fc.weight', 'fc.bias'] and not keys.unexpected_keys
        model.fc = nn.Identity()
        with torch.no_grad():
            pooled = model.eval()(IMAGES)
        torch.testing.assert_close(pooled, last_map(backbone).mean((2, 3)))
        assert export.verified.difference < 1e-4 and 'torchvision' in export.verified.method
        assert export.tensors == len(backbone.state_dict())
        assert export.values == sum(value.numel() for value in backbone.state_dict().values())

    def test_the_printed_lines_load_it(self, small, tmp_path):
        export = export_backbone(small, 'torchvision', tmp_path / 'r.pth')
        names = dict(torch=torch, torchvision=torchvision)
        exec(export.usage, names)
        own = torch.load(small)['state_dict']
        assert torch.equal(names['model'].conv1.weight, own['backbone.conv1.weight'])

    def test_the_file_says_where_it_is_from(self, small, tmp_path):
        meta = torch.load(export_backbone(small, 'torchvision', tmp_path / 'r.pth').path).meta
        assert meta['checkpoint'] == 'epoch_7.pth' and meta['experiment'] == 'invp_tiny'
        assert meta['epochs'] == 7 and meta['channel_order'] == 'RGB'
        assert meta['mean'] == MEAN and meta['std'] == STD


class TestTimm:
    def test_its_network_gives_the_same_features(self, trained, tmp_path):
        timm = pytest.importorskip('timm')
        path, backbone = trained
        export = export_backbone(path, 'timm', tmp_path / 'r.pth')
        names = dict(timm=timm)
        exec(export.usage, names)
        model = names['model'].eval()
        assert model.state_dict().keys() == torch.load(export.path).keys()
        with torch.no_grad():
            torch.testing.assert_close(model.forward_features(IMAGES), last_map(backbone))
        assert export.verified.method.startswith('equal forward passes of timm')

    def test_without_it_torchvision_stands_in(self, trained, tmp_path, monkeypatch):
        monkeypatch.setattr(state_dict, 'find_spec', lambda name: None)
        path, backbone = trained
        export = export_backbone(path, 'timm', tmp_path / 'r.pth')
        assert 'timm, which uses the same names, is not installed' in export.verified.method
        found = {name: value.shape for name, value in torch.load(export.path).items()}
        model = torchvision.models.get_model(f'resnet{backbone.depth}')
        expected = {name: value.shape for name, value in model.state_dict().items()}
        assert found == {name: expected[name] for name in expected if not name.startswith('fc.')}
