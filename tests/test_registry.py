"""The scope of this package."""

import pytest
from mmengine.hub import get_model
from mmengine.registry import MODELS, DefaultScope

import mmselfsup_invp
from mmselfsup_invp.compat.host import registries as host_registry
from mmselfsup_invp.config import require_registered


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
