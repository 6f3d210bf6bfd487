"""Patches of MMEngine and of the host."""

import re
import sys
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.config import utils as config_utils
from mmengine.dataset import BaseDataset
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.registry import Registry
from packaging.version import Version

from mmselfsup_invp.compat import patches
from mmselfsup_invp.compat.host import LIST_DATASETS
from mmselfsup_invp.compat.host import registries as host_registry

from .. import toy

ROOT = Path(__file__).resolve().parents[2]
CustomDataset, ImageList = LIST_DATASETS


class TestRegistryLocations:
    def test_missing_locations_are_dropped(self, monkeypatch):
        """A registry as the released wheel defines it, for which every Runner.train() fails."""
        locations = ['mmselfsup.engine.runner', 'mmselfsup.engine', 'no_such_package.loops']
        loops = Registry('loop', scope='released', locations=locations)
        monkeypatch.setattr(host_registry, 'LOOPS', loops)
        with pytest.raises(ModuleNotFoundError, match='mmselfsup.engine.runner'):
            loops.get('EpochBasedTrainLoop')
        patches.drop_missing_registry_locations()
        assert loops._locations == ['mmselfsup.engine']
        assert loops.get('NoLoop') is None

    def test_all_registries_of_the_host_are_patched(self):
        for name in host_registry.__all__:
            assert 'mmselfsup.engine.runner' not in getattr(host_registry, name)._locations
        assert host_registry.MODELS._locations == ['mmselfsup.models']


class Unknown:
    """A class that is not allowed in checkpoints."""


class Lookup:
    """Pickled as getattr(owner, name)."""

    def __init__(self, owner, name):
        self.lookup = owner, name

    def __reduce__(self):
        return getattr, self.lookup


@pytest.mark.skipif(Version(torch.__version__) < Version('2.6'), reason='needs torch 2.6')
class TestCheckpointGlobals:
    @pytest.fixture
    def hub(self):
        """State of a message hub with all types that a run stores."""
        hub = MessageHub.get_instance('checkpoint')
        for step in range(3):
            hub.update_scalar('train/loss', torch.tensor(step / 3))
            hub.update_scalar('train/lr', np.float32(0.1))
        hub.update_info('numbers', [np.float64(0.5), np.int64(3), np.int32(4), np.bool_(True)])
        hub.update_info('array', np.arange(3, dtype=np.int64))
        return hub.state_dict()

    @pytest.fixture
    def unpatched(self):
        before = torch.serialization.get_safe_globals()
        torch.serialization.clear_safe_globals()
        yield
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)

    @staticmethod
    def check(hub):
        """Compare the state of the hub with what was stored."""
        history = hub['log_scalars']['train/loss']
        assert type(history) is HistoryBuffer
        assert history.mean() == pytest.approx(1 / 3)
        assert hub['runtime_info']['numbers'] == [0.5, 3, 4, True]
        assert np.array_equal(hub['runtime_info']['array'], [0, 1, 2])

    def test_a_checkpoint_of_the_host_loads_safely(self, unpatched, hub, tmp_path):
        path = tmp_path / 'hub.pth'
        torch.save(dict(message_hub=hub, meta=dict(epoch=3)), path)
        with pytest.raises(UnpicklingError, match='HistoryBuffer'):
            torch.load(path, weights_only=True)
        patches.allow_checkpoint_globals()
        self.check(torch.load(path, weights_only=True)['message_hub'])

    @pytest.mark.parametrize('core', ['core', '_core'], ids=['NumPy 1', 'NumPy 2'])
    def test_a_checkpoint_of_another_numpy_loads_safely(self, hub, core):
        """The functions of arrays and scalars belong to another module in NumPy 2."""
        buffer = BytesIO()
        # This format is not compressed, and its pickle names modules as text.
        torch.save(hub, buffer, _use_new_zipfile_serialization=False)
        module = f'numpy.{core}.multiarray'.encode()
        content, replaced = re.subn(rb'numpy\._?core\.multiarray', module, buffer.getvalue())
        assert replaced
        self.check(torch.load(BytesIO(content), weights_only=True))

    def test_safe_loading_stays_on(self, tmp_path):
        torch.save(dict(state=Unknown()), tmp_path / 'unknown.pth')
        for options in (dict(weights_only=True), dict()):  # It is the default, too.
            with pytest.raises(UnpicklingError, match='Unknown'):
                torch.load(tmp_path / 'unknown.pth', **options)

    @pytest.mark.parametrize(
        ('owner', 'name'),
        [(HistoryBuffer, '__init__'), (HistoryBuffer, 'update'), (np.ndarray, 'max')],
    )
    def test_only_the_statistics_of_a_history_are_looked_up(self, tmp_path, owner, name):
        torch.save(Lookup(owner, name), tmp_path / 'lookup.pth')
        with pytest.raises(UnpicklingError, match=f"may not look up '{name}'"):
            torch.load(tmp_path / 'lookup.pth')


def test_configs_are_inherited_by_the_registered_prefix(tmp_path, monkeypatch):
    ours = min(ROOT.glob('configs/invp/*.py'))
    derived = tmp_path / 'derived.py'
    derived.write_text(f"_base_ = 'mmselfsup_invp::invp/{ours.name}'\nwork_dir = 'mine'\n")
    monkeypatch.delitem(config_utils.MODULE2PACKAGE, 'mmselfsup_invp')
    with pytest.raises(Exception, match='mmselfsup_invp'):
        Config.fromfile(derived)
    patches.register_config_prefix()
    config = Config.fromfile(derived)
    assert config.work_dir == 'mine'
    model = dict(config.model)
    assert model.pop('_scope_') == 'mmselfsup_invp'
    assert model == Config.fromfile(ours).model
    memory = host_registry.MODELS.build({**config.model.memory, '_scope_': 'mmselfsup_invp'})
    assert type(memory).__name__ == config.model.memory.type


class TestDatasets:
    @pytest.fixture
    def read(self, images, tmp_path):
        """Build a data set from a list with this content."""

        def read(dataset, content):
            path = tmp_path / 'list.txt'
            path.write_text(content)
            config = dict(type=dataset, ann_file=str(path), data_root=str(images))
            return toy.build_dataset(dict(config, data_prefix='train'))

        return read

    @pytest.mark.parametrize(
        ('method', 'dataset', 'content', 'message'),
        [
            (BaseDataset._serialize_data, 'mmcls.ImageNet', '', 'need at least one array'),
            (ImageList.load_data_list, 'ImageList', '', 'list index out of range'),
            (ImageList.load_data_list, 'ImageList', 'a.png\n\n', 'list index out of range'),
            (CustomDataset.load_data_list, 'mmcls.CustomDataset', 'a.png\n', 'not enough values'),
        ],
    )
    def test_the_unpatched_host_fails_so(
        self, read, monkeypatch, method, dataset, content, message
    ):
        owner = getattr(sys.modules[method.__module__], method.__qualname__.partition('.')[0])
        monkeypatch.setattr(owner, method.__name__, method.__wrapped__)
        with pytest.raises((IndexError, ValueError), match=message):
            read(dataset, content)

    @pytest.mark.parametrize(
        ('dataset', 'content'),
        [
            ('ImageList', '000.png 0\n\n001.png 1\n'),
            ('ImageList', '000.png 0\n001.png\n'),
            ('ImageList', '000.png\n\n001.png\n'),
            ('ImageList', 'my cat.png\n'),
            ('mmcls.CustomDataset', '000.png 0\n\n'),
            ('mmcls.CustomDataset', '000.png\n'),
            ('mmcls.ImageNet', 'my cat.png\n'),
        ],
    )
    def test_an_unreadable_list_is_named(self, read, dataset, content):
        name = dataset.rpartition('.')[2]
        with pytest.raises(ValueError, match=rf'{name} cannot read .*/list\.txt \(.*blank lines'):
            read(dataset, content)

    @pytest.mark.parametrize('dataset', ['ImageList', 'mmcls.CustomDataset'])
    def test_other_lists_are_read_as_before(self, read, dataset):
        images = read(dataset, '000.png 0\n001.png 1\n')
        assert [images.get_data_info(row)['gt_label'] for row in (0, 1)] == [0, 1]

    def test_other_errors_are_unchanged(self, images, monkeypatch):
        with pytest.raises(FileNotFoundError, match='nowhere.txt'):
            toy.build_dataset(dict(type='mmcls.CustomDataset', ann_file='nowhere.txt'))

        def fail(self):
            raise ValueError('unrelated')

        monkeypatch.setattr(CustomDataset, '_find_samples', fail)
        with pytest.raises(ValueError, match='^unrelated$'):
            CustomDataset(data_root=str(images))


def test_patches_can_be_applied_repeatedly():
    def state():
        return (
            {name: list(getattr(host_registry, name)._locations) for name in host_registry.__all__},
            len(getattr(torch.serialization, 'get_safe_globals', list)()),
            dict(config_utils.MODULE2PACKAGE),
            (BaseDataset._serialize_data, CustomDataset.load_data_list, ImageList.load_data_list),
        )

    before = state()
    patches.apply_patches()
    assert state() == before
