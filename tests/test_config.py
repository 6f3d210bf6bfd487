"""Configs: reading and changing them, and parsing their text as data."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmselfsup_invp.config import (
    MAX_CHARACTERS,
    merge_options,
    parse_config,
    read_config,
    require_registered,
)

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
# Those of detection need mmdet to be read.
FILES = sorted(
    path for path in CONFIGS.rglob('*.py') if not {'_base_', 'mmdetection'} & {*path.parts}
)


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_parses_what_mmengine_writes(path):
    config = Config.fromfile(path)
    parsed = parse_config(config.pretty_text)
    assert parsed.to_dict() == config.to_dict()
    require_registered(parsed)


@pytest.mark.parametrize(
    ('value', 'expected'),
    [
        ("dict({'a.b': 1}, c=(2, -3.5))", {'a.b': 1, 'c': (2, -3.5)}),
        ("{1: ['x', None, True], 'y': {2, 3}}", {1: ['x', None, True], 'y': {2, 3}}),
        ('[inf, -1e-3, b"z"]', [float('inf'), -1e-3, b'z']),
    ],
)
def test_parses_literals(value, expected):
    assert parse_config(f'value = {value}').to_dict() == dict(value=expected)


RUN = "__import__('os').system('touch {file}')"
HOSTILE = [
    'import os',
    'value = {run}',
    'value = dict(a=[{run}])',
    'value = {{{run}: 1}}',
    'value = dict({run})',
    'value = dict(**{{"a": {run}}})',
    'value = {{**{run}}}',
    'value = [{run} for _ in (1,)]',
    'value = (lambda: {run})()',
    'value = f"{{{run}}}"',
    'value = (other := {run})',
    'value = 1 if {run} else 2',
    'value = not {run}',
    'value: {run} = 1',
    'value[{run}] = 1',
    'a = b = {run}',
    'class Value:\n    {run}',
    'def value(a={run}): pass',
    '{run}',
    'value = other',
    'value = dict(1)',
    'value = {{[]: 1}}',
    'filename = 1',
    'value = (',
    'value = \0',
    'value = ' + '[' * 5000 + ']' * 5000,
    'value = ' + '-' * 100_000 + '1',
    'value = 1\n' * MAX_CHARACTERS,
]  # fmt: skip


@pytest.mark.parametrize('text', HOSTILE, ids=range(len(HOSTILE)))
def test_refuses_everything_else_and_executes_nothing(text, tmp_path):
    file = tmp_path / 'executed'
    text = text.format(run=RUN.format(file=file)) if '{' in text else text
    with pytest.raises(ValueError, match='config'):
        parse_config(text)
    assert not file.exists()


@pytest.mark.parametrize('text', [None, b'a = 1', 3, ['a = 1']])
def test_refuses_what_is_not_text(text):
    with pytest.raises(ValueError, match='not a text'):
        parse_config(text)


@pytest.mark.parametrize(
    'component',
    [
        dict(type='os.system', command='true'),
        dict(type='ResNet', norm_cfg=dict(type='subprocess.run')),
        dict(type='ResNet', plugins=[dict(cfg=(dict(type='mmengine.fileio.dump'),))]),
        dict(type='mmengine.dump', obj=1, file='x'),
        dict(type='.ResNet'),
        dict(type='ResNet', _scope_='os'),
    ],
)
def test_types_that_would_be_imported_are_refused(component):
    require_registered(dict(type='mmcls.ResNet', norm_cfg=dict(type='BN')))
    with pytest.raises(ValueError, match='not a registered component|an unknown scope'):
        require_registered(component)


@pytest.fixture
def cfg():
    return Config(
        dict(
            model=dict(type='InvP'),
            data_root='data/',
            default_hooks=dict(memory=dict(type='PropagationMemoryHook', ramp_epochs=30)),
        )
    )


class TestMergeOptions:
    @pytest.mark.parametrize(
        ('key', 'value'),
        [
            ('default_hooks.memory.ramp_epochs', 0),
            ('model.head', None),
            ('data_root', 'elsewhere/'),
            # Keys of the runner that are not in the config.
            ('load_from', 'epoch_1.pth'),
            ('val_cfg', None),
            ('randomness.deterministic', True),
            ('env_cfg.cudnn_benchmark', True),
            ('compile', True),
            ('custom_imports.imports', ['mine']),
        ],
    )
    def test_known_settings_are_changed(self, cfg, key, value):
        merge_options(cfg, {key: value})
        found = cfg
        for part in key.split('.'):
            found = found[part]
        assert found == value

    def test_no_options_change_nothing(self, cfg):
        merge_options(cfg, None)
        assert cfg.data_root == 'data/'

    @pytest.mark.parametrize(
        ('key', 'message'),
        [
            (
                'default_hook.memory.ramp_epochs',
                "has no 'default_hook'. Did you mean default_hooks.* Its names: data_root, ",
            ),
            ('modle.head.hops', "has no 'modle'. Did you mean model"),
            ('zzz', r"has no 'zzz'\. Its names: data_root, default_hooks, model\."),
            (
                'default_hooks.memroy.ramp_epochs',
                'default_hooks.memroy: the config has no hook of that name. Did you mean memory',
            ),
            ('default_hooks.knn.k', r'Its hooks: memory\. To add one, give default_hooks.knn.type'),
        ],
    )
    def test_unknown_settings_are_refused(self, cfg, key, message):
        with pytest.raises(ValueError, match=message):
            merge_options(cfg, {key: 1})

    def test_a_hook_with_its_type_is_added(self, cfg):
        merge_options(cfg, {'default_hooks.knn.k': 5, 'default_hooks.knn.type': 'KNNEvalHook'})
        assert cfg.default_hooks.knn == dict(type='KNNEvalHook', k=5)


class TestReadConfig:
    def test_reads_a_path_and_a_name_in_a_package(self, tmp_path):
        (tmp_path / 'mine.py').write_text('number = 1\n')
        assert read_config(tmp_path / 'mine.py').number == 1
        assert read_config('mmselfsup::selfsup/_base_/default_runtime.py').default_scope

    def test_a_missing_config_names_similar_ones(self, tmp_path):
        (tmp_path / 'mine.py').touch()
        with pytest.raises(FileNotFoundError, match='no config .*mime.py. Did you mean mine.py'):
            read_config(tmp_path / 'mime.py')
        with pytest.raises(FileNotFoundError, match='Nor is there that folder'):
            read_config(tmp_path / 'nowhere' / 'mine.py')

    @pytest.mark.parametrize(
        ('text', 'message'),
        [
            ('x = (', 'broken.py cannot be read: SyntaxError: '),
            ('x = y', "broken.py cannot be read: NameError: name 'y' is not defined"),
            ('x = 1 / 0', 'broken.py cannot be read: ZeroDivisionError: division by zero'),
            ('x = [][2]', 'broken.py cannot be read: IndexError: list index'),
        ],
    )
    def test_a_config_that_fails_is_named(self, tmp_path, text, message):
        (tmp_path / 'broken.py').write_text(text)
        with pytest.raises(ValueError, match=message):
            read_config(tmp_path / 'broken.py')

    def test_a_missing_package_is_named(self, monkeypatch):
        monkeypatch.setattr('mmengine.hub.hub.install_package', None)
        with pytest.raises(ValueError, match="the package 'mmselfsub' is not installed"):
            read_config('mmselfsub::selfsup/mine.py')
