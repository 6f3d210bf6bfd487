"""Components of MMSelfSup's meaning under MMPretrain; run by tests/test_hosts.py."""

from pickle import UnpicklingError

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, TRANSFORMS, DefaultScope
from mmengine.runner import CheckpointLoader, checkpoint

from mmselfsup_invp.compat import host_name

if host_name() != 'mmpretrain':
    pytest.skip('tests/test_hosts.py runs it with MMPretrain', allow_module_level=True)

from mmpretrain.models import ResNet as MMPretrainResNet
from mmpretrain.structures import DataSample

from mmselfsup_invp.compat import UnsupportedHost
from mmselfsup_invp.config import require_registered
from mmselfsup_invp.config_checks import check_config
from mmselfsup_invp.structures import SampleBatch, collate, label_tensor, sample_ids

from .. import toy


@pytest.mark.parametrize('scope', ['mmengine', 'mmpretrain', 'mmselfsup_invp'])
def test_names_of_the_archived_projects_are_found_from_every_scope(scope):
    with DefaultScope.overwrite_default_scope(scope):
        assert MODELS.get('mmcls.ResNet') is MMPretrainResNet
        for name in ('mmcls.ResNet_CIFAR', 'mmselfsup.InvP', 'mmselfsup_invp.ClsDataPreprocessor'):
            assert MODELS.get(name).__name__ == name.partition('.')[2]
        assert TRANSFORMS.get('mmcls.PackClsInputs').__name__ == 'PackInputs'
    require_registered(dict(type='mmcls.ResNet_CIFAR'))


def build_resnet(kind: str, **options) -> torch.nn.Module:
    with DefaultScope.overwrite_default_scope('mmselfsup_invp'):
        model = MODELS.build(dict(type=kind, depth=18, base_channels=8, stem_channels=8, **options))
    model.init_weights()
    model.eval()  # Returns None.
    return model


class TestResNet:
    def test_outputs_are_counted_from_the_stem(self):
        image = torch.rand(2, 3, 32, 32)
        model = build_resnet('ResNet', out_indices=(0, 1, 4))
        stem, first, last = model(image)
        assert stem.shape == (2, 8, 16, 16) and first.shape == (2, 8, 8, 8)
        theirs = build_resnet('mmcls.ResNet', out_indices=(0, 3))
        theirs.load_state_dict(model.state_dict())
        torch.testing.assert_close((first, last), theirs(image), rtol=0, atol=0)

    def test_residuals_are_not_zero_at_the_start(self):
        assert build_resnet('ResNet').layer1[0].norm2.weight.min() == 1
        assert build_resnet('mmcls.ResNet').layer1[0].norm2.weight.max() == 0


class TestSamples:
    @pytest.fixture
    def batch(self, images):
        return next(iter(toy.build_loader(toy.loader(images, batch_size=3))))

    def test_a_loader_gives_the_views_as_a_list_and_the_ids_as_a_tensor(self, batch):
        assert type(batch['inputs']) is list and batch['inputs'][0].shape == (3, 3, 16, 16)
        assert type(batch['data_samples']) is SampleBatch
        assert batch['data_samples'].ids.tolist() == [0, 1, 2]
        assert type(batch['data_samples'][1]) is DataSample
        assert batch['data_samples'][1].sample_idx == 1

    def test_samples_of_its_own_pipeline_give_ids_and_labels(self):
        samples = [DataSample(metainfo=dict(sample_idx=i)).set_gt_label(i) for i in (4, 2)]
        assert sample_ids(samples).tolist() == [4, 2]
        assert [label_tensor(sample.gt_label).tolist() for sample in samples] == [[4], [2]]
        items = [dict(inputs=torch.zeros(3, 2, 2), data_samples=sample) for sample in samples]
        assert collate(items)['data_samples'] == samples  # The labels are kept.

    def test_a_single_view_packed_as_a_tensor_is_not_taken_for_views(self, batch):
        """``inputs[0]`` of such a tensor is its first image."""
        model = toy.build_model(toy.model_config()).eval()
        (view,) = batch['inputs']
        image = model.data_preprocessor(batch)[0][0]
        packed = dict(inputs=view, data_samples=batch['data_samples'])
        found = model(model.data_preprocessor(packed)[0])
        torch.testing.assert_close(found, model.backbone(image), rtol=0, atol=0)
        assert found[-1].size(0) == 3


class Unknown:
    """A class that is not allowed in checkpoints."""


def test_a_checkpoint_with_code_is_not_loaded(tmp_path):
    path = tmp_path / 'unknown.pth'
    torch.save(dict(state_dict={}, meta=Unknown()), path)
    with pytest.raises(ValueError, match='not executed'):
        CheckpointLoader.load_checkpoint(str(path))
    if hasattr(checkpoint, '_safe_torch_load'):  # Of onedl-mmengine, for remote storage.
        with pytest.raises(UnpicklingError, match='Unknown'):
            checkpoint._safe_torch_load(path)


def test_odc_asks_for_mmselfsup():
    with pytest.raises(UnsupportedHost, match='ODC is an algorithm of MMSelfSup 1.0'):
        MODELS.build(dict(type='mmselfsup_invp.ODC', backbone=dict(type='ResNet', depth=18)))


def test_the_options_of_odc_are_left_to_its_refusal():
    check_config(Config(dict(model=dict(type='mmselfsup_invp.ODC', data_preprocessor=dict()))))
