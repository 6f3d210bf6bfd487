"""What all tools share: arguments, and the check of the environment."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import command_line

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
NAMES = sorted(path.stem for path in TOOLS.glob('*.py') if path.stem != 'command_line')
CONFIGS = TOOLS.parent / 'configs' / 'invp'


@pytest.fixture
def parser():
    return command_line.create_run_parser('description')


def refused(parser, capsys, *words):
    """The message to a command line with errors."""
    with pytest.raises(SystemExit) as end:
        parser.parse_args(words)
    assert end.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize('name', NAMES)
def test_help_needs_the_standard_library_alone(name):
    path = TOOLS / f'{name}.py'
    done = subprocess.run([sys.executable, '-S', path, '--help'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('usage: ')


def test_another_python_is_reported(tmp_path):
    """As by one without the packages."""
    config = next(CONFIGS.glob('*.py'))
    command = [sys.executable, '-S', TOOLS / 'train.py', config]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert "error: No module named 'mmselfsup_invp'" in done.stderr
    assert f'This is {sys.executable} (Python 3.' in done.stderr
    assert 'Use .venv/bin/python, which `make setup` creates.' in done.stderr


def test_an_old_python_can_read_the_tools():
    for name in (*NAMES, 'command_line'):
        ast.parse((TOOLS / f'{name}.py').read_text(), feature_version=(3, 7))


def test_a_missing_config_names_similar_ones(parser, capsys, tmp_path):
    (tmp_path / 'mine.py').touch()
    assert parser.parse_args([str(tmp_path / 'mine.py')]).config == str(tmp_path / 'mine.py')
    assert parser.parse_args(['mmselfsup::any.py']).config == 'mmselfsup::any.py'
    message = refused(parser, capsys, str(tmp_path / 'mime.py'))
    assert 'there is no config' in message and 'Did you mean mine.py?' in message
    message = refused(parser, capsys, str(tmp_path / 'nowhere' / 'mine.py'))
    assert 'There is no folder' in message


def test_options_are_collected_as_texts(parser):
    words = ['a::b.py', '--cfg-options', 'a.b=[1,2]', 'c=', 'd=x=y', '--cfg-options', 'c=/a b']
    args = parser.parse_args(words)
    assert args.cfg_options == {'a.b': '[1,2]', 'c': '/a b', 'd': 'x=y'}
    assert args.launcher == 'none' and not args.debug


@pytest.mark.parametrize('word', ['word', '=1'])
def test_an_option_without_key_or_value_is_named(parser, capsys, word):
    message = refused(parser, capsys, 'a::b.py', '--cfg-options', 'a=1', word)
    assert f'{word!r} is not of the form KEY=VALUE' in message


@pytest.mark.parametrize('spelling', ['--local_rank', '--local-rank'])
def test_the_rank_of_a_launcher_is_kept(parser, monkeypatch, spelling):
    args = parser.parse_args(['a::b.py', spelling, '3'])
    monkeypatch.setenv('LOCAL_RANK', '7')
    command_line.require_packages(args)
    assert command_line.os.environ['LOCAL_RANK'] == '7'
    monkeypatch.delenv('LOCAL_RANK')
    command_line.require_packages(args)
    assert command_line.os.environ['LOCAL_RANK'] == '3'
