"""The mends of the host toolbox."""

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
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.registry import DefaultScope, Registry
from mmselfsup import registry as host_registry
from mmselfsup.datasets import ImageList
from packaging.version import Version

from mmselfsup_invp import compat

from . import toy

ROOT = Path(__file__).resolve().parent.parent
TESTED = {package: tested for package, (_, _, tested) in compat.SUPPORTED.items()}


class TestVersions:
    def check(self, **changes):
        installed = {**TESTED, **changes}
        compat.check_versions(installed.get)

    def test_the_requirements_ask_for_the_same(self):
        lines = (ROOT / 'requirements' / 'mim.txt').read_text().splitlines()
        ranges = {
            package: f'>={low},<{beyond}'
            for package, (low, beyond, _) in compat.SUPPORTED.items()
            if package != 'torch'
        }
        asked = [line for line in lines if line and not line.startswith('#')]
        assert sorted(asked) == sorted(name + span for name, span in ranges.items())

    def test_what_is_installed_here_is_supported(self):
        compat.check_versions()

    def test_tested_versions_are_supported(self):
        self.check()

    @pytest.mark.parametrize(
        'fine',
        [
            dict(torch='2.0.0'),
            dict(torch='2.11.0+cu130'),
            dict(torch='2.0.1+cpu'),
            dict(torch='2.11.9'),
            dict(mmcls='1.0.0rc6'),
            dict(mmcls='1.0.0'),
            dict(mmengine='0.10.4'),
        ],
    )
    def test_versions_within_the_range_are_accepted(self, fine):
        self.check(**fine)

    @pytest.mark.parametrize(
        ('package', 'found'),
        [
            ('torch', '1.13.1'),
            ('torch', '1.13.1+cu117'),
            ('torch', '2.12.0'),
            ('torch', '2.12.0+cpu'),
            ('mmengine', '0.9.1'),
            ('mmengine', '1.0.0'),
            ('mmcv', '1.7.2'),
            ('mmcv', '2.1.0'),
            ('mmcls', '1.0.0rc5'),
            ('mmselfsup', '0.11.0'),
            ('mmselfsup', '1.1.0'),
        ],
    )
    def test_versions_outside_are_refused(self, package, found):
        low, beyond, tested = compat.SUPPORTED[package]
        message = (
            f'{package} {found} is not supported; mmselfsup_invp works with {package} '
            f'>={low},<{beyond}: pip install "{package}=={tested}"'
        )
        with pytest.raises(compat.UnsupportedHost, match=f'^{re.escape(message)}'):
            self.check(**{package: found})

    @pytest.mark.parametrize('package', TESTED)
    def test_missing_packages_are_named(self, package):
        with pytest.raises(ImportError, match=f'^{package} is not installed; .*pip install'):
            self.check(**{package: None})

    def test_mmcv_lite_counts_as_mmcv(self, monkeypatch):
        def only_lite(name):
            if name == 'mmcv':
                raise compat.PackageNotFoundError(name)
            return dict(TESTED, **{'mmcv-lite': '2.0.1'})[name]

        monkeypatch.setattr(compat, 'version', only_lite)
        assert compat._installed('mmcv') == '2.0.1'
        compat.check_versions()
        monkeypatch.setattr(compat, 'ALTERNATIVES', {})
        with pytest.raises(compat.UnsupportedHost, match='mmcv is not installed'):
            compat.check_versions()


class TestRegistryLocations:
    @pytest.fixture
    def loops(self, monkeypatch):
        """A registry as the released wheel defines it, not imported yet."""
        loops = Registry(
            'loop',
            scope='released',
            locations=['mmselfsup.engine.runner', 'mmselfsup.engine', 'no_such_package.loops'],
        )
        monkeypatch.setattr(host_registry, 'LOOPS', loops)
        return loops

    def test_the_fault_is_there(self, loops):
        """As in every Runner.train() without the mend."""
        with pytest.raises(ModuleNotFoundError, match='mmselfsup.engine.runner'):
            loops.get('EpochBasedTrainLoop')

    def test_locations_that_exist_are_kept(self, loops):
        compat.drop_missing_registry_locations()
        assert loops._locations == ['mmselfsup.engine']
        assert loops.get('NoLoop') is None
        compat.drop_missing_registry_locations()
        assert loops._locations == ['mmselfsup.engine']

    def test_all_registries_of_the_host_are_mended(self):
        for name in host_registry.__all__:
            locations = getattr(host_registry, name)._locations
            assert 'mmselfsup.engine.runner' not in locations, name
        assert host_registry.MODELS._locations == ['mmselfsup.models']


class Stranger:
    """A class that nobody vouches for."""


class Lookup:
    """Pickled as getattr(owner, name)."""

    def __init__(self, owner, name):
        self.lookup = owner, name

    def __reduce__(self):
        return getattr, self.lookup


@pytest.mark.skipif(
    Version(torch.__version__) < Version('2.6'), reason='this torch loads everything'
)
class TestCheckpointTypes:
    @pytest.fixture
    def bare(self):
        """Safe loading as if the plugin had not been imported."""
        before = torch.serialization.get_safe_globals()
        torch.serialization.clear_safe_globals()
        yield
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)

    @pytest.fixture
    def path(self, tmp_path):
        """The part of a checkpoint that the host's log writes."""
        hub = MessageHub.get_instance('checkpoint')
        for step in range(3):
            hub.update_scalar('train/loss', torch.tensor(step / 3))
            hub.update_scalar('train/lr', np.float32(0.1))
        hub.update_info('numbers', [np.float64(0.5), np.int64(3), np.int32(4), np.bool_(True)])
        hub.update_info('array', np.arange(3, dtype=np.int64))
        torch.save(dict(message_hub=hub.state_dict(), meta=dict(epoch=3)), tmp_path / 'hub.pth')
        return tmp_path / 'hub.pth'

    def test_the_fault_is_there(self, bare, path):
        with pytest.raises(UnpicklingError, match='HistoryBuffer'):
            torch.load(path, weights_only=True)

    def test_a_checkpoint_of_the_host_loads_safely(self, bare, path):
        compat.allow_checkpoint_types()
        compat.allow_checkpoint_types()
        hub = torch.load(path, weights_only=True)['message_hub']
        history = hub['log_scalars']['train/loss']
        assert type(history) is HistoryBuffer
        assert history.mean() == pytest.approx(1 / 3)
        assert hub['runtime_info']['numbers'] == [0.5, 3, 4, True]
        assert np.array_equal(hub['runtime_info']['array'], [0, 1, 2])

    def test_safe_loading_stays_on(self, tmp_path):
        torch.save(dict(state=Stranger()), tmp_path / 'strange.pth')
        with pytest.raises(UnpicklingError, match='Stranger'):
            torch.load(tmp_path / 'strange.pth', weights_only=True)
        with pytest.raises(UnpicklingError, match='Stranger'):
            torch.load(tmp_path / 'strange.pth')  # The default, too.

    @pytest.mark.parametrize(
        ('owner', 'name'),
        [(HistoryBuffer, '__init__'), (HistoryBuffer, 'update'), (np.ndarray, 'max')],
    )
    def test_only_the_statistics_of_a_history_are_looked_up(self, tmp_path, owner, name):
        """A free getattr would lead from any function to its globals and on."""
        torch.save(Lookup(owner, name), tmp_path / 'lookup.pth')
        with pytest.raises(UnpicklingError, match=f"may not look up '{name}'"):
            torch.load(tmp_path / 'lookup.pth')


class TestConfigs:
    @pytest.fixture
    def heir(self, tmp_path):
        """A config of a user that inherits from one of ours, and the path of that."""
        ours = sorted(Path(__file__).parents[1].glob('configs/invp/*.py'))[0]
        heir = tmp_path / 'mine.py'
        heir.write_text(f"_base_ = 'mmselfsup_invp::invp/{ours.name}'\nwork_dir = 'mine'\n")
        return heir, ours

    def test_can_be_inherited_by_name(self, heir):
        heir, ours = heir
        config, expected = Config.fromfile(heir), Config.fromfile(ours)
        assert config.work_dir == 'mine'
        model = dict(config.model)
        assert model.pop('_scope_') == 'mmselfsup_invp'
        assert model == expected.model

    def test_the_scope_of_what_is_inherited_leads_to_our_components(self, heir):
        config = Config.fromfile(heir[0])
        memory = host_registry.MODELS.build({**config.model.memory, '_scope_': 'mmselfsup_invp'})
        assert type(memory).__name__ == config.model.memory.type
        with DefaultScope.overwrite_default_scope('mmselfsup_invp'):
            for name in ('InvP', 'ProjectionNeck', 'ContrastiveHead'):  # The host's own, too.
                assert host_registry.MODELS.get(name).__name__ == name
            assert host_registry.HOOKS.get('PropagationMemoryHook') is not None

    def test_because_the_name_was_announced(self, heir, monkeypatch):
        monkeypatch.delitem(config_utils.MODULE2PACKAGE, 'mmselfsup_invp')
        with pytest.raises(Exception, match='mmselfsup_invp'):
            Config.fromfile(heir[0])
        compat.announce_configs()
        compat.announce_configs()
        assert Config.fromfile(heir[0]).work_dir == 'mine'


class TestDataSets:
    @pytest.fixture
    def read(self, images, tmp_path):
        """Read the images from a list with this content."""

        def read(dataset, content):
            (tmp_path / 'list.txt').write_text(content)
            return toy.build_dataset(
                dict(
                    type=dataset,
                    data_root=str(images),
                    ann_file=str(tmp_path / 'list.txt'),
                    data_prefix='train',
                )
            )

        return read

    @pytest.mark.parametrize(
        ('method', 'dataset', 'content', 'fault'),
        [
            (BaseDataset._serialize_data, 'mmcls.ImageNet', '', 'need at least one array'),
            (ImageList.load_data_list, 'ImageList', '', 'list index out of range'),
            (ImageList.load_data_list, 'ImageList', 'a.png\n\n', 'list index out of range'),
            (CustomDataset.load_data_list, 'mmcls.CustomDataset', 'a.png\n', 'not enough values'),
        ],
    )
    def test_the_faults_are_there(self, read, monkeypatch, method, dataset, content, fault):
        owner = getattr(sys.modules[method.__module__], method.__qualname__.partition('.')[0])
        monkeypatch.setattr(owner, method.__name__, method.__wrapped__)
        with pytest.raises((IndexError, ValueError), match=fault):
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
    def test_a_list_that_cannot_be_read_is_named(self, read, dataset, content):
        name = dataset.rpartition('.')[2]
        with pytest.raises(ValueError, match=rf'{name} cannot read .*/list\.txt \(.*blank line'):
            read(dataset, content)

    @pytest.mark.parametrize('dataset', ['ImageList', 'mmcls.CustomDataset'])
    def test_other_lists_are_read_as_before(self, read, dataset):
        images = read(dataset, '000.png 0\n001.png 1\n')
        assert [images.get_data_info(row)['gt_label'] for row in (0, 1)] == [0, 1]

    def test_a_missing_list_is_not_hidden(self, images):
        with pytest.raises(FileNotFoundError, match='nowhere.txt'):
            toy.build_dataset(dict(type='mmcls.CustomDataset', ann_file='nowhere.txt'))

    def test_an_error_without_a_list_is_not_hidden(self, images):
        class Odd(CustomDataset):
            def _find_samples(self):
                raise ValueError('odd')

        with pytest.raises(ValueError, match='^odd$'):
            Odd(data_root=str(images))


def test_preparing_again_changes_nothing():
    def state():
        return (
            {name: list(getattr(host_registry, name)._locations) for name in host_registry.__all__},
            len(getattr(torch.serialization, 'get_safe_globals', list)()),
            dict(config_utils.MODULE2PACKAGE),
            (BaseDataset._serialize_data, CustomDataset.load_data_list, ImageList.load_data_list),
        )

    before = state()
    compat.prepare()
    assert state() == before
