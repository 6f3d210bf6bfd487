import pickle

import numpy as np
import pytest
import torchvision

from mmselfsup_invp.export import TARGETS, export_backbone
from mmselfsup_invp.export.targets.detectron2 import detectron2_name

from .checkpoints import MEAN, STD


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
        with pytest.raises(
            ValueError, match=r'Missing.*"conv1.weight".*\s+Unexpected.*"root.conv1'
        ):
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
