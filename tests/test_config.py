"""Configs as text: read as data, never executed."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmselfsup_invp.config import MAX_CHARACTERS, parse_config, require_registered

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
