"""Registries of the scope ``mmselfsup_invp``.

The components are registered with the host's registries, so that its configs find them without a
scope. The registries here make ``type='mmselfsup_invp.InvP'`` valid in every OpenMMLab project, and
serve configs with ``default_scope = 'mmselfsup_invp'`` and those that are inherited as
``mmselfsup_invp::...``: MMEngine builds their parts in this scope and imports this module for it.

With MMPretrain, the names of MMSelfSup and MMClassification (``mmcls.ResNet_CIFAR``) are found too.
"""

from mmengine.registry import FUNCTIONS, LOG_PROCESSORS, Registry

from .compat.host import STAND_INS, registries
from .structures import collate

SCOPE = 'mmselfsup_invp'


class ScopedRegistry(Registry):
    """Registry of a scope which finds in the host's registry what it does not hold itself.

    It is a child of MMEngine's root registry, as those of the OpenMMLab projects are: only the
    children of the root are found from another project's scope.
    """

    def __init__(self, host: Registry, scope: str) -> None:
        super().__init__(host.name, parent=host.parent, scope=scope, locations=[SCOPE])
        self.host = host

    def get(self, key: str) -> type | None:
        """Return the component that a config names ``key``, or None."""
        scope, name = self.split_scope_key(key)
        if scope in (None, self.scope) and name not in self.module_dict:
            return self.host.get(name)
        return super().get(key)


def _add_scope(scope: str, components: dict[str, dict]) -> dict[str, ScopedRegistry]:
    """Create the registries of a scope, which hold these components, by registry and name."""
    added = {}
    for kind in registries.__all__:
        host = getattr(registries, kind)
        if host.parent is not None:
            added[kind] = ScopedRegistry(host, scope)
            for name, component in components.get(kind, {}).items():
                added[kind].register_module(name=name, module=component)
    return added


# Unqualified names in our configs have the meaning of MMSelfSup.
globals().update(_add_scope(SCOPE, STAND_INS.get('mmselfsup', {})))
for _scope, _components in STAND_INS.items():
    _add_scope(_scope, _components)

Registry(FUNCTIONS.name, parent=FUNCTIONS, scope=SCOPE, locations=[SCOPE]).register_module(
    name='default_collate', module=collate
)
# Empty: MMEngine's serves this scope too, without a warning that the scope has none.
if SCOPE not in LOG_PROCESSORS.children:
    Registry(LOG_PROCESSORS.name, parent=LOG_PROCESSORS, scope=SCOPE, locations=[SCOPE])
