"""The scope of this package."""

from importlib import import_module

import pytest
from mmengine.config import Config
from mmengine.hub import get_model
from mmengine.registry import MODELS, DefaultScope

import mmselfsup_invp
from mmselfsup_invp.compat.host import registries as host_registry
from mmselfsup_invp.config import require_registered


class TestScope:
    @pytest.mark.parametrize('project', ['mmselfsup_invp', 'mmselfsup'])
    @pytest.mark.parametrize(
        'scope',
        [
            *('mmengine', 'mmcls', 'mmselfsup', 'mmselfsup_invp'),
            pytest.param('mmdet', marks=pytest.mark.detection),
        ],
    )
    def test_our_components_are_found_from_every_project(self, scope, project):
        registry = import_module(f'{scope}.registry')
        with DefaultScope.overwrite_default_scope(scope):
            for models in (MODELS, registry.MODELS):
                loss = models.build(dict(type=f'{project}.HardSamplingLoss'))
                assert type(loss).__name__ == 'HardSamplingLoss'

    def test_a_config_of_another_project_may_inherit_ours(self, tmp_path):
        config = tmp_path / 'mine.py'
        config.write_text(
            "_base_ = 'mmselfsup_invp::invp/invp_resnet18-slim_1xb32-coslr-50e_digits.py'\n"
            "default_scope = 'mmcls'\n"
        )
        with DefaultScope.overwrite_default_scope('mmcls'):
            model = host_registry.MODELS.build(Config.fromfile(config).model)
        assert type(model).__name__ == 'InvP'

    def test_it_finds_components_of_the_host_too(self):
        with DefaultScope.overwrite_default_scope('mmselfsup_invp'):
            for name in ('InvP', 'ProjectionNeck', 'ContrastiveHead'):
                assert host_registry.MODELS.get(name).__name__ == name
            assert host_registry.HOOKS.get('PropagationMemoryHook') is not None
        assert MODELS.get('mmselfsup_invp.NoSuchModel') is None

    def test_a_config_may_name_components_of_the_host_by_it(self):
        require_registered(dict(type='mmselfsup_invp.ContrastiveHead'))
        with pytest.raises(ValueError, match='not a registered component'):
            require_registered(dict(type='mmselfsup_invp.NoSuchModel'))

    def test_the_hub_builds_our_models(self):
        model = get_model('mmselfsup_invp::invp/invp_resnet18-slim_1xb32-coslr-50e_digits.py')
        assert type(model).__name__ == 'InvP'

    def test_unknown_attributes_are_refused(self):
        assert mmselfsup_invp.models.InvP.__name__ == 'InvP'
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            mmselfsup_invp.nothing  # noqa: B018
