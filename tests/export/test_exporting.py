import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mmselfsup_invp.compat.host import MODELS
from mmselfsup_invp.export import TARGETS, export_backbone
from mmselfsup_invp.export.targets import Target, state_dict
from mmselfsup_invp.export.targets.detectron2 import detectron2_name

from .. import toy

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))


def randomised(backbone: nn.Module) -> nn.Module:
    """Draw batch norms too, so that no two weights are alike."""
    for name, value in backbone.state_dict().items():
        if value.ndim == 1:
            value.uniform_(0.5, 1.5)
        if name.endswith('running_mean') or name.endswith('bias'):
            value.sub_(1)
    backbone.eval()
    return backbone


def save_checkpoint(path: Path, **backbone: Any) -> tuple[Path, nn.Module]:
    """A checkpoint as MMEngine's runner writes it, and its backbone."""
    model = toy.model_config(data_preprocessor=dict(mean=MEAN, std=STD))
    model['backbone'] = {'type': 'ResNet', **backbone}
    network = randomised(revert_sync_batchnorm(MODELS.build(model['backbone'])))
    state = {f'backbone.{name}': value for name, value in network.state_dict().items()}
    state['neck.fc.weight'] = torch.zeros(2, 2)
    meta = dict(
        cfg=Config(dict(model=model)).pretty_text,
        epoch=7,
        iter=70,
        experiment_name='invp_tiny_20240101_000000',
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=state, meta=meta, message_hub={}), path)
    return path, network


@pytest.fixture(scope='module', params=[18, 50])
def trained(request, tmp_path_factory) -> tuple[Path, nn.Module]:
    torch.manual_seed(request.param)
    root = tmp_path_factory.mktemp(f'resnet{request.param}')
    return save_checkpoint(root / 'epoch_7.pth', depth=request.param, norm_cfg=dict(type='BN'))


@pytest.fixture(scope='module')
def small(tmp_path_factory) -> Path:
    """A checkpoint of ResNet-18, for what does not depend on the depth."""
    return save_checkpoint(tmp_path_factory.mktemp('small') / 'epoch_7.pth', depth=18)[0]


@torch.no_grad()
def last_map(backbone: nn.Module) -> Tensor:
    return backbone(IMAGES)[-1]


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


@pytest.mark.detection
class TestMMDetection:
    def build(self, usage: str) -> nn.Module:
        """The backbone of the printed config, with its weights."""
        from mmdet.registry import MODELS as DETECTORS

        model = Config.fromstring(usage, '.py').model
        with DefaultScope.overwrite_default_scope('mmdet'):  # Not that of an earlier run.
            backbone = DETECTORS.build(model.backbone)
        backbone.init_weights()
        backbone.eval()
        return backbone

    def test_its_network_gives_the_same_features(self, trained, tmp_path):
        path, backbone = trained
        export = export_backbone(path, 'mmdet', tmp_path / 'r.pth')
        with torch.no_grad():
            feature = self.build(export.usage)(IMAGES)[-1]
        torch.testing.assert_close(feature, last_map(backbone))
        assert torch.load(export.path)['meta']['mean'] == MEAN

    @pytest.mark.parametrize(
        'changes',
        [
            dict(base_channels=16),
            dict(base_channels=16, stem_channels=16),
            dict(depth=50, style='caffe', base_channels=8),
            dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), base_channels=8),
            dict(norm_cfg=dict(type='SyncBN', eps=1e-2), base_channels=8),
            dict(type='mmcls.ResNet', num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1),
                 out_indices=(2,), base_channels=8),
        ],
        ids=lambda changes: '-'.join(changes),
    )  # fmt: skip
    def test_it_takes_other_networks_too(self, tmp_path, changes):
        path, backbone = save_checkpoint(tmp_path / 'e.pth', **{'depth': 18, **changes})
        export = export_backbone(path, 'mmdet')
        with torch.no_grad():
            feature = self.build(export.usage)(IMAGES)[-1]
        torch.testing.assert_close(feature, last_map(backbone))
        for other in ('torchvision', 'timm', 'detectron2'):
            with pytest.raises(ValueError, match='Use --to mmdet or --to mmselfsup.'):
                export_backbone(path, other)

    def test_its_scope_does_not_change_what_is_built(self, small, tmp_path):
        with DefaultScope.overwrite_default_scope('mmdet'):
            assert export_backbone(small, 'mmdet', tmp_path / 'r.pth').verified.difference < 1e-4

    def test_without_it_nothing_is_written(self, small, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, 'mmdet.models', None)
        with pytest.raises(ModuleNotFoundError, match='cannot be imported .*--to mmselfsup'):
            export_backbone(small, 'mmdet', tmp_path / 'r.pth')
        assert not list(tmp_path.iterdir())


class TestDetectron2:
    def test_values_are_kept_under_its_names(self, trained, tmp_path):
        path, backbone = trained
        export = export_backbone(path, 'detectron2', tmp_path / 'r.pkl')
        content = pickle.loads(export.path.read_bytes())
        assert content['__author__'] == 'mmselfsup_invp' and content['matching_heuristics'] is True
        assert content['meta']['std'] == STD
        weights, own = content['model'], backbone.state_dict()
        assert len(weights) == len(own) == {18: 120, 50: 318}[backbone.depth]
        assert all(isinstance(value, np.ndarray) for value in weights.values())
        for theirs, ours in {
            'stem.conv1.weight': 'conv1.weight',
            'stem.conv1.norm.running_var': 'bn1.running_var',
            'res2.1.conv2.weight': 'layer1.1.conv2.weight',
            'res3.0.conv1.norm.weight': 'layer2.0.bn1.weight',
            'res4.0.shortcut.weight': 'layer3.0.downsample.0.weight',
            'res5.0.shortcut.norm.bias': 'layer4.0.downsample.1.bias',
            'res5.1.conv2.norm.num_batches_tracked': 'layer4.1.bn2.num_batches_tracked',
        }.items():
            np.testing.assert_array_equal(weights[theirs], own[ours].numpy())
        assert export.verified.difference < 1e-4
        assert "under the names that Detectron2's converter gives" in export.verified.method

    @pytest.mark.parametrize('depth', [18, 50])
    def test_names_and_shapes_are_those_of_its_resnet(self, depth):
        model = torchvision.models.get_model(f'resnet{depth}').state_dict()
        found = {detectron2_name(name): tuple(value.shape) for name, value in model.items()}
        expected = detectron2_shapes(depth)
        assert {name: found[name] for name in found if 'fc' not in name} == expected

    def test_a_weight_under_another_name_is_an_error(self, small, tmp_path, monkeypatch):
        target = TARGETS['detectron2']
        monkeypatch.setattr(
            type(target), 'rename', lambda self, name: detectron2_name(name).replace('stem', 'root')
        )
        with pytest.raises(ValueError, match='missing: .*conv1.weight.* unexpected: root.conv1'):
            export_backbone(small, 'detectron2', tmp_path / 'r.pkl')
        assert not list(tmp_path.iterdir())

    def test_the_settings_that_go_with_it_are_named(self, trained):
        path, backbone = trained
        usage = export_backbone(path, 'detectron2', force=True).usage
        assert f'cfg.MODEL.RESNETS.DEPTH = {backbone.depth}' in usage
        assert 'cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False' in usage
        assert "cfg.INPUT.FORMAT = 'RGB'" in usage and f'cfg.MODEL.PIXEL_MEAN = {MEAN}' in usage
        assert ('RES2_OUT_CHANNELS = 64' in usage) is (backbone.depth == 18)


def detectron2_shapes(depth: int) -> dict[str, tuple[int, ...]]:
    """Weights of Detectron2's ResNet from the structure of its stem and blocks."""
    basic = depth < 50
    weights = dict(convolution('stem.conv1', 3, 64, 7))
    channels = 64
    for stage, count in enumerate({18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}[depth]):
        width = 64 * 2**stage
        outputs, kernels = (
            ((width,) * 2, (3, 3)) if basic else ((width, width, 4 * width), (1, 3, 1))
        )
        for block in range(count):
            name = f'res{stage + 2}.{block}'
            if channels != outputs[-1]:
                weights |= convolution(f'{name}.shortcut', channels, outputs[-1], 1)
            for number, (width_in, out, kernel) in enumerate(
                zip((channels, *outputs[:-1]), outputs, kernels, strict=True), start=1
            ):
                weights |= convolution(f'{name}.conv{number}', width_in, out, kernel)
            channels = outputs[-1]
    return weights


def convolution(name: str, inputs: int, outputs: int, kernel: int) -> dict[str, tuple[int, ...]]:
    norm = ('weight', 'bias', 'running_mean', 'running_var')
    return {
        f'{name}.weight': (outputs, inputs, kernel, kernel),
        **{f'{name}.norm.{statistic}': (outputs,) for statistic in norm},
        f'{name}.norm.num_batches_tracked': (),
    }


# Networks that only MMSelfSup has, and a standard one.
NETWORKS = [
    dict(depth=18),
    dict(type='mmcls.ResNet_CIFAR', depth=18, stem_channels=8, base_channels=8),
    dict(depth=18, deep_stem=True, base_channels=8, norm_cfg=dict(type='GN', num_groups=4)),
    dict(depth=18, base_channels=8, norm_cfg=dict(type='SyncBN')),
    dict(type='AlexNetBN'),
]


class TestMMSelfSup:
    @pytest.mark.parametrize('config', NETWORKS, ids=lambda config: config.get('type', 'ResNet'))
    def test_the_printed_config_loads_every_network(self, tmp_path, config):
        path, backbone = save_checkpoint(tmp_path / 'e.pth', **config)
        export = export_backbone(path, 'mmselfsup')
        assert export.path.name == 'e_mmselfsup.pth' and export.verified.difference == 0
        model = Config.fromstring(export.usage, '.py').model
        assert model.data_preprocessor == dict(mean=MEAN, std=STD, bgr_to_rgb=True)
        with DefaultScope.overwrite_default_scope('mmselfsup'):
            loaded = revert_sync_batchnorm(MODELS.build(model.backbone))
        loaded.init_weights()
        loaded.eval()
        torch.testing.assert_close(last_map(loaded), last_map(backbone), rtol=0, atol=0)

    def test_other_processes_load_weights_only(self, small, tmp_path):
        """As the host's and MMDetection's own scripts, without this package."""
        path = export_backbone(small, 'mmselfsup', tmp_path / 'r.pth').path
        code = (
            'import sys, torch\n'
            'from mmengine.runner.checkpoint import _load_checkpoint_with_prefix as load\n'
            'content = torch.load(sys.argv[1], weights_only=True)\n'
            'assert all(name.startswith("backbone.") for name in content["state_dict"])\n'
            'print(content["meta"]["epochs"], len(load("backbone.", sys.argv[1])))\n'
            'assert "mmselfsup_invp" not in sys.modules\n'
        )
        done = subprocess.run(
            [sys.executable, '-c', code, path], capture_output=True, text=True, check=True
        )
        assert done.stdout.split()[-2:] == ['7', '120']

    @pytest.mark.detection
    def test_mmdet_reads_it_with_the_prefix(self, trained, tmp_path):
        from mmdet.models import ResNet

        path, backbone = trained
        file = export_backbone(path, 'mmselfsup', tmp_path / 'r.pth').path
        init_cfg = dict(type='Pretrained', checkpoint=str(file), prefix='backbone.')
        model = ResNet(depth=backbone.depth, init_cfg=init_cfg)
        model.init_weights()
        model.eval()
        torch.testing.assert_close(last_map(model), last_map(backbone))


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
