import subprocess
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from torch import nn

from mmselfsup_invp.compat.host import MODELS
from mmselfsup_invp.export import export_backbone

from .checkpoints import IMAGES, MEAN, STD, last_map, save_checkpoint


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
