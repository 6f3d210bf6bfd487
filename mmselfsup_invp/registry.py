"""Registries by which MMEngine finds the components of a config named ``mmselfsup_invp::...``.

What is inherited from such a name carries this package as its scope, and MMEngine imports this
module to learn what the scope holds. The components themselves are registered with MMSelfSup, so
that a config without any scope finds them too; each registry here only leads to its parent there.
"""

from mmengine.registry import FUNCTIONS, Registry
from mmselfsup import registry as host

from .structures import collate

SCOPE = 'mmselfsup_invp'

for _name in host.__all__:
    _parent = getattr(host, _name)
    globals()[_name] = Registry(_parent.name, parent=_parent, scope=SCOPE, locations=[SCOPE])

Registry(FUNCTIONS.name, parent=FUNCTIONS, scope=SCOPE, locations=[SCOPE]).register_module(
    name='default_collate', module=collate
)
