"""Links, paths, options, messages, arguments and configs of the documentation."""

import ast
import inspect
import re
import runpy
import shlex
import sys
from argparse import ArgumentParser, Namespace
from importlib import import_module
from pathlib import Path

import mmselfsup
import pytest
from mmengine.config import Config

from mmselfsup_invp.cli.options import read_run_config
from mmselfsup_invp.compat.host import MODELS, registries
from mmselfsup_invp.datasets import PILGaussianBlur
from mmselfsup_invp.options import options_of

from .pages import PAGES, ROOT, anchors, blocks, inline_commands, name

OPTIONS = (ROOT / 'docs/en/configuration.md').read_text()
SECTIONS = dict(re.findall(r'^## (\w+)\n(.*?)(?=^## |\Z)', OPTIONS, re.DOTALL | re.MULTILINE))
# Options that a section describes in words.
IN_WORDS = {
    'ProjectionNeck': dict(init_cfg='Xavier'),
    'AlexNetBN': dict(init_cfg='Kaiming'),
}
# Sections that list the options which a component adds to those of a class of another package.
ADDED_ALONE = {'CheckpointHook', 'FewLabels', 'ImageFiles', 'LoadImage', 'VOCMeanAveragePrecision'}
HOST_CONFIGS = Path(mmselfsup.__file__).parent / '.mim/configs/selfsup/_base_'

every_page = pytest.mark.parametrize('page', PAGES, ids=name)


@every_page
def test_links_have_targets(page):
    for link in re.findall(r'\]\(([^)]+)\)', page.read_text()):
        if link.startswith('http'):
            continue
        path, _, anchor = link.partition('#')
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@every_page
def test_named_files_exist(page):
    text = '\n'.join(block.code for block in blocks(page) if block.language == 'shell')
    pattern = r'(?<![\w/:])((?:benchmarks|configs|examples|tools)/[\w/.-]+\.(?:py|sh))'
    assert not {path for path in re.findall(pattern, text) if not (ROOT / path).is_file()}


@every_page
def test_commands_are_in_shell_blocks(page):
    """Only these blocks are checked and run."""
    for block in blocks(page):
        if block.language not in ('shell', 'python'):
            assert block.language not in ('bash', 'sh', 'console', 'py')
            assert not re.search(r'^(python|pip|make|sh|mim|tools/)\b', block.code, re.MULTILINE)


@every_page
def test_configs_load(page, tmp_path):
    """Complete configs, and parts of one."""
    # As in configs/selfsup/invp of MMSelfSup, where a config of README.md belongs.
    (tmp_path / '_base_').symlink_to(HOST_CONFIGS)
    folder = tmp_path / 'invp'
    folder.mkdir()
    found = blocks(page)
    for block in found:
        if not block.is_config:
            continue
        (folder / 'mine.py').write_text(block.code)
        config = Config.fromfile(folder / 'mine.py', import_custom_modules=False)
        # Components of the page are registered by test_docs_run.
        if 'type' in config.get('model', ()) and not any(block.file for block in found):
            assert MODELS.get(config.model.type)


@every_page
def test_imports_exist(page):
    for block in blocks(page):
        if block.language != 'python':
            continue
        for node in ast.walk(ast.parse(block.code)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith('mmselfsup_invp'):
                module = import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), node.module


def component(name: str) -> type:
    """The class of a component, from the registry that holds it."""
    if name == 'PILGaussianBlur':
        return PILGaussianBlur
    kinds = (getattr(registries, kind) for kind in registries.__all__)
    return next(found for kind in kinds if (found := kind.get(name)) is not None)


def default(option: inspect.Parameter) -> str:
    return 'required' if option.default is option.empty else f'`{option.default!r}`'


def options_added_by(cls: type) -> dict[str, inspect.Parameter]:
    """Options that a class names itself."""
    if '__init__' not in vars(cls):
        return {}
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    options = inspect.signature(cls).parameters
    return {name: option for name, option in options.items() if option.kind in kinds}


@pytest.mark.parametrize('name', SECTIONS)
def test_every_option_is_listed_with_its_default(name):
    section, cls = SECTIONS[name], component(name)
    listed = dict(re.findall(r'^\| `(\w+)` \| ([^|]+?) \|', section, re.MULTILINE))
    options = options_added_by(cls) if name in ADDED_ALONE else options_of(cls)
    expected = {key: default(option) for key, option in options.items()}
    expected |= IN_WORDS.get(name, {})
    for other in re.findall(r'^Options of `(\w+)`', section, re.MULTILINE):
        shared = {key: default(option) for key, option in options_of(component(other)).items()}
        listed = shared | listed
    assert listed == expected


def tool_call(command: str) -> tuple[str, list[str]] | None:
    """The Python tool that a command runs, and its arguments."""
    words = shlex.split(command, comments=True)
    words = words[: next((n for n, word in enumerate(words) if word in ('&&', '|', '>')), None)]
    start = next((n for n, word in enumerate(words) if word.startswith('tools/')), None)
    if start is None:
        return None
    tool, arguments = words[start], words[start + 1 :]
    if tool == 'tools/dist_train.sh':  # CONFIG GPUS [options]
        return 'tools/train.py', [arguments[0], *arguments[2:]]
    if tool == 'tools/slurm_train.sh':  # PARTITION JOB CONFIG [options]
        return 'tools/train.py', arguments[2:]
    return (tool, arguments) if tool.endswith('.py') else None


class Parsed(Exception):
    """Raised with the arguments of a tool, instead of running it."""


def parse(tool: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> Namespace:
    """Arguments as the parser of a tool reads them."""
    original = ArgumentParser.parse_args

    def parse_args(parser: ArgumentParser) -> None:
        raise Parsed(original(parser))

    with monkeypatch.context() as patch, pytest.raises(Parsed) as parsed:
        patch.setattr(ArgumentParser, 'parse_args', parse_args)
        patch.setattr(sys, 'argv', [tool, *arguments])
        runpy.run_path(str(ROOT / tool), run_name='__main__')
    return parsed.value.args[0]


@every_page
def test_tools_accept_the_arguments(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    shell = [block for block in blocks(page) if block.language == 'shell']
    commands = [command for block in shell for command in block.commands()]
    for call in filter(None, map(tool_call, commands + inline_commands(page))):
        tool, arguments = call
        for word in arguments:  # Configs that the reader writes.
            if re.fullmatch(r'CONFIG|\w+\.py', word):
                Path(word).touch()
        args = parse(tool, arguments, monkeypatch)
        config = getattr(args, 'config', None)
        if config and ('::' in config or config.startswith('configs/')):
            read_run_config(args)  # refuses options that the config does not have


def messages() -> str:
    """All texts in the code, with ... for the values that are inserted into them."""
    found = []
    for path in [*(ROOT / 'mmselfsup_invp').rglob('*.py'), *(ROOT / 'tools').glob('*.py')]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (getattr(part, 'value', None) for part in node.values)
                found.append(''.join(part if isinstance(part, str) else '...' for part in parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return '\n'.join(found)


def test_quoted_messages_exist():
    """The first column of the tables of messages and warnings."""
    texts, quoted = messages(), []
    for page in PAGES:
        for table in re.findall(
            r'^\| (?:Message|Warning) \|.*?(?=\n\n|\Z)', page.read_text(), re.S | re.M
        ):
            for row in table.splitlines()[2:]:
                quoted += re.findall(r'`((?:[^`]|`make setup`)+)`', row.split(' | ')[0])
    assert len(quoted) > 60
    parts = {part.strip() for message in quoted for part in message.split('...')}
    assert not {part for part in parts if part not in texts}
