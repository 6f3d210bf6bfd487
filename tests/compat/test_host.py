"""What the components use of the host, for both hosts, by the source code of the adapters."""

import ast
from pathlib import Path

import pytest

import mmselfsup_invp

PACKAGE = Path(mmselfsup_invp.__file__).parent
PROJECTS = {'mmselfsup', 'mmcls', 'mmpretrain'}


def parse(path):
    return ast.parse((PACKAGE / path).read_text())


def imported_projects(path):
    """First parts of the absolute imports of a file, also of those inside functions."""
    names = []
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.append(node.module)
    return {name.partition('.')[0] for name in names}


def defined_names(path):
    """Names of a module: imports, assignments, functions and classes."""
    names = set()
    for node in parse(path).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
    return names


def test_only_the_adapters_import_a_host():
    found = {
        str(path.relative_to(PACKAGE)): imported_projects(path) & PROJECTS
        for path in PACKAGE.rglob('*.py')
        if '.mim' not in path.parts
    }
    assert {path: projects for path, projects in found.items() if projects} == {
        'compat/mmselfsup.py': {'mmselfsup', 'mmcls'},
        'compat/mmpretrain.py': {'mmpretrain'},
    }


@pytest.mark.parametrize('host', ['mmselfsup', 'mmpretrain'])
def test_an_adapter_has_all_names(host):
    used = {
        node.attr
        for node in ast.walk(parse('compat/host.py'))
        if isinstance(node, ast.Attribute) and getattr(node.value, 'id', '') == 'adapter'
    }
    assert {'registries', 'BaseModel', 'make_sample'} <= used
    assert used <= defined_names(f'compat/{host}.py')
