"""Read, change and check configs: those of files, and those that checkpoints hold as text."""

import ast
import inspect
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine import registry
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import Registry
from mmengine.runner import Runner

from .options import suggest

# Keys that MMEngine's runner reads besides the arguments of its constructor.
RUNNER_KEYS = {
    'activation_checkpointing',
    'compile',
    'custom_imports',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'sync_bn',
    *inspect.signature(Runner).parameters,
} - {'cfg'}
# What the statements of a config raise.
MISTAKES = (ArithmeticError, AttributeError, LookupError, NameError, SyntaxError, TypeError)
# A config of MMEngine takes about 10,000 characters.
MAX_CHARACTERS = 1_000_000


def read_config(name: str | Path) -> Config:
    """Read a config file, which is executed.

    ``name`` is its path, or ``PACKAGE::PATH`` for a config of an installed package.

    Raises:
        FileNotFoundError: If there is no such config.
        ValueError: If the package is not installed, or executing the file fails.
    """
    name = str(name)
    if '::' in name:
        package = name.partition('::')[0]
        if not package.isidentifier() or find_spec(package) is None:
            raise ValueError(f'{name}: the package {package!r} is not installed.')
        return get_config(name)
    path = Path(name)
    if not path.is_file():
        files = [file.name for file in path.parent.glob('*.py')]
        hint = suggest(path.name, files) if path.parent.is_dir() else ' Nor is there that folder.'
        raise FileNotFoundError(f'There is no config {name}.{hint}')
    try:
        return Config.fromfile(name)
    except MISTAKES as error:
        raise ValueError(f'{name} cannot be read: {type(error).__name__}: {error}') from error


def merge_options(cfg: Config, options: dict[str, Any] | None) -> None:
    """Change settings of a config, in place, by values with dotted names.

    A first part of a name that is neither in the config nor a key that the runner reads, or a hook
    that the config does not have, raises ``ValueError``.
    """
    options = options or {}
    known = RUNNER_KEYS | set(cfg)
    for key in options:
        first = key.partition('.')[0]
        if first not in known:
            raise ValueError(
                f'--cfg-options {key}: the config has no {first!r}.{suggest(first, known)} Its '
                f'names: {", ".join(sorted(cfg))}.'
            )
    before = set(cfg.get('default_hooks') or {})
    cfg.merge_from_dict(options)
    for name in set(cfg.get('default_hooks') or {}) - before:
        hook = cfg.default_hooks[name]
        if isinstance(hook, dict) and 'type' not in hook:
            raise ValueError(
                f'--cfg-options default_hooks.{name}: the config has no hook of that name.'
                f'{suggest(name, before)} Its hooks: {", ".join(sorted(before))}. To add one, give '
                f'default_hooks.{name}.type too.'
            )


def dicts_in(config: Any) -> Iterator[dict]:
    """Every dict in a config, at any depth of dicts, lists and tuples; outer ones first."""
    if isinstance(config, dict):
        yield config
        config = list(config.values())
    if isinstance(config, (list, tuple)):
        for value in config:
            yield from dicts_in(value)


def parse_config(text: str) -> Config:
    """Read the text of a config as data, without executing it.

    MMEngine stores the config of a run in its checkpoints as Python code, ``meta['cfg']``;
    ``Config.fromstring`` would execute it, whatever a stranger has written there. The text may hold
    assignments ``NAME = VALUE`` of literals, lists, tuples, sets, dicts and calls ``dict(KEY=VALUE,
    ...)``, all that ``Config.pretty_text`` writes; anything else raises ``ValueError``.

    Example:
        >>> parse_config("model = dict(type='InvP', head=dict(hops=3))").model.head.hops
        3
    """
    if not isinstance(text, str) or len(text) > MAX_CHARACTERS:
        raise ValueError(f'The config is not a text of at most {MAX_CHARACTERS:,} characters.')
    try:
        return Config(dict(map(_assignment, ast.parse(text).body)))
    except SyntaxError as error:
        raise ValueError(f'The config is not valid Python: {error}.') from error
    except (RecursionError, MemoryError) as error:
        raise ValueError('The config is nested too deeply.') from error
    except (TypeError, KeyError) as error:  # An unhashable key, or a name that Config reserves.
        raise ValueError(f'The config has an invalid key: {error}.') from error


def _assignment(statement: ast.stmt) -> tuple[str, Any]:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name, _literal(value)
    raise ValueError(f'Line {statement.lineno} of the config is not an assignment NAME = VALUE.')


def _literal(node: ast.expr) -> Any:
    match node:
        case ast.Call(func=ast.Name(id='dict'), args=[*mapping], keywords=keywords) if len(
            mapping
        ) < 2 and all(keyword.arg for keyword in keywords):
            named = {keyword.arg: _literal(keyword.value) for keyword in keywords}
            return dict(*map(_literal, mapping), **named)
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return dict(zip(map(_literal, keys), map(_literal, values), strict=True))
        case ast.List(elts=items):
            return list(map(_literal, items))
        case ast.Tuple(elts=items):
            return tuple(map(_literal, items))
        case ast.Name(id='inf' | 'nan' as name):  # What repr() gives for these floats.
            return float(name)
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise ValueError(f'Line {node.lineno} of the config is not a literal value.') from error


def require_registered(config: Any, source: str = 'The config') -> None:
    """Raise if a ``type`` in a config names a Python object instead of a registered component.

    MMEngine imports dotted names that its registries lack: ``dict(type='os.system', command=...)``
    would be executed. Call this before anything is built from the config of a checkpoint. Names
    without a dot are left to the registries, which import nothing but modules for them.

    Args:
        config (Any): Config, dict or list of components, at any depth.
        source (str): What the message calls it. Defaults to ``'The config'``.

    Raises:
        ValueError: Names the first ``type`` with a dot that is not ``SCOPE.NAME`` of a component.

    Example:
        >>> require_registered(dict(type='os.system', command='true'))
        Traceback (most recent call last):
        ...
        ValueError: The config has type='os.system', which is not a registered component.
    """
    names = _registered_names()
    for part in dicts_in(config):
        scope, dot, name = str(part.get('type', '')).rpartition('.')
        if dot and name not in names.get(scope, ()):
            raise ValueError(
                f'{source} has type={part["type"]!r}, which is not a registered component.'
            )
        if part.get('_scope_', 'mmengine') not in names:
            raise ValueError(f'{source} has _scope_={part["_scope_"]!r}, an unknown scope.')


def _registered_names() -> dict[str, set[str]]:
    """Names of the components of all registries by scope, with those of the parent registries."""
    names: dict[str, set[str]] = defaultdict(set)
    queue = [each for each in vars(registry).values() if isinstance(each, Registry)]
    for each in queue:
        queue += each.children.values()
        scope, ancestor = each.scope, each
        while ancestor is not None:
            names[scope] |= ancestor.module_dict.keys()
            # Our registries hold the components of the host's (ScopedRegistry).
            ancestor = getattr(ancestor, 'host', ancestor.parent)
    return names
