"""Check the options of a config before anything is built from it.

A wrong value in a config otherwise fails late, with the error of a library, or trains. Here every
option of every registered component is compared with its declaration: the type hints of the
components of this package (:mod:`~mmselfsup_invp.options`), and for others the tables of
:mod:`~mmselfsup_invp.host_options` and plain type hints (``int``, ``bool | None``).
"""

import inspect
from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from typing import Any

from mmengine import registry
from mmengine.config import Config
from mmengine.registry import Registry
from torchvision import transforms

from .config import RUNNER_KEYS
from .host_options import (
    COMPONENTS,
    DATALOADER,
    PARAMETER_GROUP,
    PREPROCESSOR,
    SECTIONS,
    TOP_LEVEL,
    Options,
)
from .options import check_option, options_of, suggest, unknown_option

# Where the components below a key of a config come from; below other keys, from the same as above.
REGISTRIES: dict[str, Registry] = {
    'model': registry.MODELS,
    'dataset': registry.DATASETS,
    'pipeline': registry.TRANSFORMS,
    'sampler': registry.DATA_SAMPLERS,
    'batch_sampler': registry.DATA_SAMPLERS,
    'default_hooks': registry.HOOKS,
    'custom_hooks': registry.HOOKS,
    'optim_wrapper': registry.OPTIM_WRAPPERS,
    'optimizer': registry.OPTIMIZERS,
    'param_scheduler': registry.PARAM_SCHEDULERS,
    'train_cfg': registry.LOOPS,
    'val_cfg': registry.LOOPS,
    'test_cfg': registry.LOOPS,
    'val_evaluator': registry.METRICS,
    'test_evaluator': registry.METRICS,
    'log_processor': registry.LOG_PROCESSORS,
    'visualizer': registry.VISUALIZERS,
    'vis_backends': registry.VISBACKENDS,
    'init_cfg': registry.WEIGHT_INITIALIZERS,
    'collate_fn': registry.FUNCTIONS,
}
# MMEngine removes these from a config before it builds the component.
REMOVED = {
    '_scope_',
    'by_epoch',
    'constructor',
    'convert_to_iter_based',
    'paramwise_cfg',
    'priority',
    'type',
}
# The type hints of other packages that are trusted; ``int`` often stands where floats are meant.
TRUSTED = (bool, bool | None)
# Similarity from which a key that nothing reads counts as misspelt.
CLOSE = 0.8

Find = Callable[[str], type | None]


def check_config(cfg: Config) -> None:
    """Refuse misspelt keys, unknown options and values that are not valid.

    Options without a declaration and components that are not registered are left to MMEngine. The
    ``ValueError`` names the first wrong option, its place, its value and the valid values.

    Example:
        >>> check_config(Config(dict(optim_wraper=dict())))
        Traceback (most recent call last):
        ...
        ValueError: The config has the key optim_wraper = {}, which nothing reads. Did you mean \
optim_wrapper? If it is a variable of your own, give it another name.
    """
    content = cfg._cfg_dict.to_dict()
    _check_keys(content)
    for key in content.keys() & RUNNER_KEYS:
        if key in TOP_LEVEL:
            check_option('The config', key, content[key], TOP_LEVEL[key])
        _check(key, content[key], None, content.get('default_scope') or 'mmengine')


def _check_keys(content: dict[str, Any]) -> None:
    for key in content.keys() - RUNNER_KEYS:
        # Names such as gallery_dataloader and query_dataloader are those of variables.
        known = [one for one in RUNNER_KEYS if abs(len(one) - len(key)) < 2]
        if close := get_close_matches(key, known, 1, CLOSE):
            raise ValueError(
                f'The config has the key {key} = {content[key]!r}, which nothing reads. Did you '
                f'mean {close[0]}? If it is a variable of your own, give it another name.'
            )


def _check(path: str, value: Any, above: Registry | Find | None, scope: str) -> None:
    """Check all components at any depth; ``above`` is where those of the dict around come from."""
    if isinstance(value, (list, tuple)):
        for number, entry in enumerate(value):
            _check(f'{path}[{number}]', entry, above, scope)
    if not isinstance(value, dict):
        return
    key = path.rpartition('.')[2].partition('[')[0]
    source = REGISTRIES.get(key, above)
    component = _component(value['type'], source, scope) if 'type' in value else None
    if component is not None:
        _check_component(path, value, component)
        source = LIBRARIES.get(component.__name__, source)
    elif 'type' not in value:
        _check_section(path, key, value)
    for name, child in value.items():
        _check(f'{path}.{name}', child, source, scope)


def _component(name: Any, source: Registry | Find | None, scope: str) -> Callable | None:
    """The component that a config names; None if it is unknown, which MMEngine reports."""
    if callable(name) or source is None:
        return name if callable(name) else None
    if not isinstance(source, Registry):
        return source(str(name))
    with suppress(RuntimeError, ImportError, TypeError):
        return source.get(name if '.' in name else f'{scope}.{name}')
    return None


def _in_torchvision(name: str) -> type | None:
    from .datasets.transforms.views import PILGaussianBlur

    return PILGaussianBlur if name == 'PILGaussianBlur' else getattr(transforms, name, None)


def _in_kornia(name: str) -> type | None:
    with suppress(ImportError, AttributeError):
        import kornia.augmentation

        return getattr(kornia.augmentation, name, None)
    return None


# Components whose parts come from a library instead of a registry.
LIBRARIES: dict[str, Find] = {
    'AugmentedViews': _in_torchvision,
    'AugmentingDataPreprocessor': _in_kornia,
}


def _check_section(path: str, key: str, part: dict[str, Any]) -> None:
    """Check a dict without a type, if it is one that MMEngine reads."""
    if key.endswith('_dataloader'):
        declared = DATALOADER
    elif path.startswith('optim_wrapper.paramwise_cfg.custom_keys.'):
        declared = PARAMETER_GROUP
    elif key == 'data_preprocessor':
        declared = PREPROCESSOR
    else:
        declared = SECTIONS.get(path, {})
    for name, value in part.items() if declared else ():
        if name in declared:
            check_option(path, name, value, declared[name])
        elif name != '_scope_':
            raise ValueError(unknown_option(path, name, value, declared))


def _check_component(path: str, part: dict[str, Any], component: Callable) -> None:
    options = options_of(component)
    declared = _declared(component)
    # A function of ours stands in for a component that is not supported, whatever its options.
    ours = inspect.isclass(component) and component.__module__.startswith(__package__)
    place = f'{path} ({component.__name__})'
    for name, value in part.items():
        option = options.get(name)
        if name in declared:
            hint = declared[name]
        elif option is not None:
            hint = option.annotation if ours or option.annotation in TRUSTED else Any
        elif name in REMOVED or not (ours or suggest(name, options)):
            continue  # Left to the constructor.
        else:
            raise ValueError(unknown_option(place, name, value, options))
        if option is None or not _equal(value, option.default):
            check_option(place, name, value, hint)


def _declared(component: Callable) -> Options:
    """Options of a component of another package and of its bases in the tables."""
    found: Options = {}
    for one in inspect.getmro(component) if inspect.isclass(component) else ():
        table = COMPONENTS.get(f'{one.__module__.partition(".")[0]}.{one.__name__}', {})
        found = {**table, **found}
    return found


def _equal(value: Any, default: Any) -> bool:
    return type(value) is type(default) and value == default
