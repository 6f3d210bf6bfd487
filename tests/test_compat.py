"""Version checks and patches of the host."""

import re
import sys
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import pytest
import torch
from mmcls.datasets import CustomDataset
from mmengine.config import Config
from mmengine.config import utils as config_utils
from mmengine.dataset import BaseDataset
from mmengine.hub import get_model
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.registry import MODELS, DefaultScope, Registry
from mmselfsup import registry as host_registry
from mmselfsup.datasets import ImageList
from packaging.version import Version

import mmselfsup_invp
from mmselfsup_invp import compat

from . import toy

ROOT = Path(__file__).resolve().parent.parent
TESTED = {package: tested for package, (_, _, tested) in compat.SUPPORTED.items()}


class TestVersions:
    def check(self, **changes):
        return compat.check_versions({**TESTED, **changes}.get)

    def test_requirements_and_lock_agree(self):
        asked = (ROOT / 'requirements' / 'mim.txt').read_text().splitlines()
        locked = (ROOT / 'requirements' / 'locked.txt').read_text().splitlines()
        for package, (low, end, tested) in compat.SUPPORTED.items():
            name = compat.ALTERNATIVES.get(package, package)
            assert f'{name}=={tested}' in locked
            (line,) = (line for line in asked if re.match(rf'{name}[<>]', line))
            assert line.endswith(f'<{end}')
            if package.startswith('mm'):
                assert line == f'{name}>={low},<{end}'

    def test_installed_and_tested_versions_are_supported(self):
        compat.require_host()
        assert self.check() is None

    @pytest.mark.parametrize(
        'versions',
        [
            dict(torch='2.0.0'),
            dict(torch='2.11.9+cu130'),
            dict(mmcls='1.0.0'),
            dict(mmengine='0.10.4', numpy='1.24.1', setuptools='60.2.0'),
        ],
    )
    def test_versions_in_the_range_are_supported(self, versions):
        assert self.check(**versions) is None

    @pytest.mark.parametrize(
        ('package', 'found'),
        [
            ('torch', '1.13.1+cu117'),
            ('torch', '2.12.0+cpu'),
            ('mmengine', '0.9.1'),
            ('mmengine', '1.0.0'),
            ('mmcv', '1.7.2'),
            ('mmcv', '2.1.0'),
            ('mmcls', '1.0.0rc5'),
            ('mmselfsup', '0.11.0'),
            ('mmselfsup', '1.1.0'),
            ('numpy', '2.0.0'),
            ('setuptools', '81.0.0'),
        ],
    )
    def test_other_versions_are_named_with_the_command(self, package, found):
        low, end, tested = compat.SUPPORTED[package]
        message = self.check(**{package: found})
        assert f'\n    {package} >={low},<{end}, but {found} is installed\n' in message
        assert f'pip install "{package}=={tested}"\n' in message

    def test_missing_packages_are_named_together(self, monkeypatch):
        message = self.check(mmcv=None, mmselfsup=None)
        assert 'mmcv >=2.0.0,<2.1.0, but it is not installed' in message
        assert 'pip install "mmcv-lite==2.0.1" "mmselfsup==1.0.0"\n' in message
        monkeypatch.setattr(compat, 'host_error', lambda: message)
        with pytest.raises(compat.UnsupportedHost, match='mmselfsup >=1.0.0'):
            mmselfsup_invp.register_all_modules()

    def test_either_distribution_of_mmcv_counts(self, monkeypatch):
        def version(name):
            if name not in installed:
                raise compat.PackageNotFoundError(name)
            return installed[name]

        monkeypatch.setattr(compat, 'version', version)
        for name in ('mmcv', 'mmcv-lite'):
            installed = {name: '2.0.1'}
            assert compat.installed_version('mmcv') == '2.0.1'
        assert compat.installed_version('mmcls') is None


class TestScope:
    @pytest.mark.parametrize('scope', ['mmengine', 'mmcls', 'mmselfsup', 'mmselfsup_invp'])
    def test_our_components_are_found_from_every_project(self, scope):
        with DefaultScope.overwrite_default_scope(scope):
            loss = MODELS.build(dict(type='mmselfsup_invp.HardSamplingLoss'))
        assert type(loss).__name__ == 'HardSamplingLoss'

    def test_it_finds_components_of_the_host_too(self):
        with DefaultScope.overwrite_default_scope('mmselfsup_invp'):
            for name in ('InvP', 'ProjectionNeck', 'ContrastiveHead'):
                assert host_registry.MODELS.get(name).__name__ == name
            assert host_registry.HOOKS.get('PropagationMemoryHook') is not None
        assert MODELS.get('mmselfsup_invp.NoSuchModel') is None

    def test_the_hub_builds_our_models(self):
        model = get_model('mmselfsup_invp::invp/invp_resnet18-slim_1xb32-coslr-50e_digits.py')
        assert type(model).__name__ == 'InvP'

    def test_unknown_attributes_are_refused(self):
        assert mmselfsup_invp.models.InvP.__name__ == 'InvP'
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            mmselfsup_invp.nothing  # noqa: B018


class TestRegistryLocations:
    def test_missing_locations_are_dropped(self, monkeypatch):
        """A registry as the released wheel defines it, for which every Runner.train() fails."""
        locations = ['mmselfsup.engine.runner', 'mmselfsup.engine', 'no_such_package.loops']
        loops = Registry('loop', scope='released', locations=locations)
        monkeypatch.setattr(host_registry, 'LOOPS', loops)
        with pytest.raises(ModuleNotFoundError, match='mmselfsup.engine.runner'):
            loops.get('EpochBasedTrainLoop')
        compat.drop_missing_registry_locations()
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
    def unpatched(self):
        before = torch.serialization.get_safe_globals()
        torch.serialization.clear_safe_globals()
        yield
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)

    def test_a_checkpoint_of_the_host_loads_safely(self, unpatched, tmp_path):
        hub = MessageHub.get_instance('checkpoint')
        for step in range(3):
            hub.update_scalar('train/loss', torch.tensor(step / 3))
            hub.update_scalar('train/lr', np.float32(0.1))
        hub.update_info('numbers', [np.float64(0.5), np.int64(3), np.int32(4), np.bool_(True)])
        hub.update_info('array', np.arange(3, dtype=np.int64))
        path = tmp_path / 'hub.pth'
        torch.save(dict(message_hub=hub.state_dict(), meta=dict(epoch=3)), path)
        with pytest.raises(UnpicklingError, match='HistoryBuffer'):
            torch.load(path, weights_only=True)
        compat.allow_checkpoint_globals()
        hub = torch.load(path, weights_only=True)['message_hub']
        history = hub['log_scalars']['train/loss']
        assert type(history) is HistoryBuffer
        assert history.mean() == pytest.approx(1 / 3)
        assert hub['runtime_info']['numbers'] == [0.5, 3, 4, True]
        assert np.array_equal(hub['runtime_info']['array'], [0, 1, 2])

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
    compat.register_config_prefix()
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
    compat.apply_patches()
    assert state() == before
