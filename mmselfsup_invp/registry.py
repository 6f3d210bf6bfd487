"""Registries of the scope ``mmselfsup_invp``.

The components are registered with MMSelfSup's registries, so that its configs find them without a
scope. The registries here make ``type='mmselfsup_invp.InvP'`` valid in every OpenMMLab project, and
serve configs that are inherited as ``mmselfsup_invp::...``: MMEngine builds their parts in this
scope and imports this module for it.
"""

from .compat import require_host

require_host()

from mmengine.registry import FUNCTIONS, LOG_PROCESSORS, Registry  # noqa: E402
from mmselfsup import registry as host  # noqa: E402

from .structures import collate  # noqa: E402

SCOPE = 'mmselfsup_invp'


class ScopedRegistry(Registry):
    """Registry of this scope which finds in the host's registry what it does not hold itself.

    It is a child of MMEngine's root registry, as those of the OpenMMLab projects are: only the
    children of the root are found from another project's scope.

    Args:
        host (Registry): MMSelfSup's registry of the same kind.
    """

    def __init__(self, host: Registry) -> None:
        super().__init__(host.name, parent=host.parent, scope=SCOPE, locations=[SCOPE])
        self.host = host

    def get(self, key: str) -> type | None:
        """Return the component that a config names ``key``, or None."""
        scope, name = self.split_scope_key(key)
        if scope in (None, SCOPE) and name not in self.module_dict:
            return self.host.get(name)
        return super().get(key)


for _name in host.__all__:
    globals()[_name] = ScopedRegistry(getattr(host, _name))

Registry(FUNCTIONS.name, parent=FUNCTIONS, scope=SCOPE, locations=[SCOPE]).register_module(
    name='default_collate', module=collate
)
# Empty: found in MMEngine's, without a warning that this scope has none.
Registry(LOG_PROCESSORS.name, parent=LOG_PROCESSORS, scope=SCOPE, locations=[SCOPE])
