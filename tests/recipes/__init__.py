"""The constants of the shipped configs, written out from the papers and the official codes.

A constant is the value that a run uses: that of the config or, where the config omits it, the
default of the component. Each table names the values of the method; each config adds only what its
own source changes.
"""

from .common import Recipe
from .interclr import INTERCLR, INTERCLR_CONFIGS, ODC
from .invp import INVP, INVP_CONFIGS, SOFT, SOFT_CONFIGS
from .sela import SELA, SELA_CONFIGS

METHODS: list[tuple[str, Recipe, dict[str, Recipe]]] = [
    ('invp', INVP, INVP_CONFIGS),
    ('invp', SOFT, SOFT_CONFIGS),
    ('interclr', INTERCLR, INTERCLR_CONFIGS),
    ('sela', SELA, SELA_CONFIGS),
    ('odc', ODC, {'odc_resnet50_8xb64-steplr-440e_in1k': {}}),
]
RECIPES: dict[str, Recipe] = {
    f'{folder}/{name}': recipe | changes
    for folder, recipe, configs in METHODS
    for name, changes in configs.items()
}
