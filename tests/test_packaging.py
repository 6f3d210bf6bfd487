"""The wheel, the sdist and the editable install."""

import ctypes
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
MIM = 'mmselfsup_invp/.mim'
# The installed packages, for a Python that does not load this environment's editable install (-S).
PACKAGES = [path for path in sys.path if path.endswith('site-packages')]
# Where the CPU search is compiled, as a path and as a module.
(NATIVE,) = (path.parent for path in ROOT.glob('mmselfsup_invp/**/_native.c'))
NATIVE = NATIVE.relative_to(ROOT).as_posix()

# Builds leave files behind, so they run in a copy without the files that git ignores.
NOT_COPIED = shutil.ignore_patterns(
    *('.git', '.venv', '.cache', '.*_cache', '__pycache__'),
    *('build', 'dist', '*.egg-info', '*.so', 'work_dirs', 'data'),
)

FIND = """
import mmselfsup_invp
from mmengine.hub import get_config
from mmengine.utils import get_installed_path

print(mmselfsup_invp.__file__)
print(get_installed_path('mmselfsup_invp'))
print(get_config('mmselfsup_invp::{config}').filename)
"""


def run(*command: object, cwd: Path, **env: str) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pip(*arguments: object, cwd: Path, **env: str) -> None:
    """pip without a network."""
    offline = ('--no-deps', '--no-build-isolation', '--no-index', '--disable-pip-version-check')
    run(sys.executable, '-m', 'pip', arguments[0], *offline, *arguments[1:], cwd=cwd, **env)


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope='module')
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp('packaging') / 'tree'
    shutil.copytree(ROOT, copy, symlinks=True, ignore=NOT_COPIED)
    # Byte code must not be packed.
    for folder in ('tools', 'configs'):
        (copy / folder / '__pycache__').mkdir()
        (copy / folder / '__pycache__' / 'left.cpython-311.pyc').touch()
    return copy


@pytest.fixture(scope='module')
def wheel(tree: Path) -> Path:
    pip('wheel', '.', '--wheel-dir', tree.parent / 'wheel', cwd=tree)
    (built,) = (tree.parent / 'wheel').glob('*.whl')
    return built


@pytest.fixture(scope='module')
def a_config() -> str:
    """A config as `mmselfsup_invp::` names it."""
    return next(config for _, config in indexed_configs()).removeprefix('configs/')


def indexed_configs() -> list[tuple[str, str]]:
    """(metafile, config) of every model that model-index.yml leads to."""
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    return [
        (metafile, model['Config'])
        for metafile in index['Import']
        for model in yaml.safe_load((ROOT / metafile).read_text())['Models']
    ]


# ---- the model index ----


def test_the_index_leads_to_configs_that_exist():
    found = indexed_configs()
    assert found
    missing = [pair for pair in found if not (ROOT / pair[1]).is_file()]
    assert not missing


def test_the_index_names_every_metafile():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    there = {path.relative_to(ROOT).as_posix() for path in ROOT.glob('configs/**/metafile.yml')}
    assert len(index) == len(set(index)) and set(index) == there


# ---- contents of the wheel ----


def test_the_wheel_holds_the_package_its_configs_and_tools_and_nothing_else(wheel):
    names = names_in(wheel)
    package = {
        path.relative_to(ROOT).as_posix()
        for pattern in ('**/*.py', '**/*.html', 'py.typed')
        for path in (ROOT / 'mmselfsup_invp').glob(pattern)
        if '.mim' not in path.parts
    }
    linked = [ROOT / 'model-index.yml']
    for pattern in ('configs/**/*.py', 'configs/**/*.yml', 'tools/**/*.py', 'tools/**/*.sh'):
        linked += ROOT.glob(pattern)
    assert package <= names
    with zipfile.ZipFile(wheel) as archive:
        for path in linked:
            content = archive.read(f'{MIM}/{path.relative_to(ROOT).as_posix()}')
            assert content == path.read_bytes()
    assert {name.split('/')[0].split('-')[0] for name in names} == {'mmselfsup_invp'}
    assert not [name for name in names if '__pycache__' in name or name.endswith('.pyc')]


COMPILER = shlex.split(os.environ.get('CC') or sysconfig.get_config_var('CC') or 'cc')[0]


@pytest.mark.skipif(shutil.which(COMPILER) is None, reason='needs a C compiler')
def test_the_wheel_holds_the_compiled_search(wheel, tmp_path):
    compiled = [name for name in names_in(wheel) if name.endswith('.so')]
    assert f'{NATIVE}/_native{sysconfig.get_config_var("EXT_SUFFIX")}' in compiled
    with zipfile.ZipFile(wheel) as archive:
        for name in compiled:
            assert ctypes.CDLL(archive.extract(name, tmp_path)).filter_rows


def test_without_a_compiler_all_but_the_compiled_search_is_installed(tree, wheel, tmp_path):
    copy = shutil.copytree(tree, tmp_path / 'tree', symlinks=True, ignore=NOT_COPIED)
    pip('wheel', '.', '--wheel-dir', tmp_path / 'wheel', cwd=copy, CC='no-such-compiler')
    (plain,) = (tmp_path / 'wheel').glob('*.whl')
    assert names_in(plain) == {name for name in names_in(wheel) if not name.endswith('.so')}
    site = tmp_path / 'site'
    pip('install', '--target', site, '--editable', copy, cwd=tmp_path, CC='no-such-compiler')
    module = NATIVE.replace('/', '.')
    code = f'from {module} import native; print(native.__file__, native.available())'
    code = f'import site; site.addsitedir({str(site)!r})\n{code}'
    path = os.pathsep.join([str(site), *PACKAGES])
    found = run(sys.executable, '-S', '-c', code, cwd=tmp_path, PYTHONPATH=path)
    assert found == f'{copy}/{NATIVE}/native.py False\n'


def test_the_metadata_names_licence_pythons_and_extras(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith('.dist-info/METADATA'))
        lines = archive.read(name).decode().splitlines()
    assert 'Name: mmselfsup-invp' in lines
    assert any(line.startswith('License') and line.endswith('Apache-2.0') for line in lines)
    assert {'>=3.11', '<3.13'} == set(
        next(line for line in lines if line.startswith('Requires-Python: ')).split()[1].split(',')
    )
    required = [line.split(': ')[1] for line in lines if line.startswith('Requires-Dist: ')]
    assert [line for line in required if 'extra ==' not in line] == ['torch>=2.0.1']
    for extra, package in dict(
        mim='mmselfsup', detection='mmdet', gpu='faiss-gpu-cu12', optional='kornia', all='mmdet'
    ).items():
        assert any(re.match(rf'{package}\b.*extra == .{extra}.$', line) for line in required)


def test_the_sdist_gives_the_same_wheel(tree, wheel):
    backend = 'from setuptools import build_meta; build_meta.build_sdist("../sdist")'
    run(sys.executable, '-c', backend, cwd=tree)
    (sdist,) = (tree.parent / 'sdist').glob('*.tar.gz')
    pip('wheel', sdist, '--wheel-dir', tree.parent / 'second', cwd=tree.parent)
    (second,) = (tree.parent / 'second').glob('*.whl')
    assert second.name == wheel.name and names_in(second) == names_in(wheel)


# ---- MMEngine, and MIM in the same way, find the package ----


def find(package: Path, config: str, cwd: Path, *site: Path) -> None:
    """Assert that MMEngine, started in another folder, finds `package` and its configs."""
    code, path = FIND.format(config=config), ''
    if site:
        # Without this environment's own editable install (-S), but with its other packages.
        code = f'import site; site.addsitedir({str(site[0])!r})\n{code}'
        path = os.pathsep.join([str(site[0]), *PACKAGES])
    options = ['-S'] if site else []
    found = run(sys.executable, *options, '-c', code, cwd=cwd, PYTHONPATH=path).splitlines()
    assert found[-3:] == [
        f'{package}/__init__.py',
        f'{package}',
        f'{package}/.mim/configs/{config}',
    ]


def test_an_installed_wheel_is_found(wheel, a_config, tmp_path):
    site = tmp_path / 'site'
    pip('install', '--target', site, wheel, cwd=tmp_path)
    find(site / 'mmselfsup_invp', a_config, tmp_path, site)


def test_an_editable_install_is_found_in_the_tree(tree, a_config, tmp_path):
    site = tmp_path / 'site'
    pip('install', '--target', site, '--editable', tree, cwd=tmp_path)
    find(tree / 'mmselfsup_invp', a_config, tmp_path, site)
    if shutil.which(COMPILER):
        assert list((tree / NATIVE).glob('_native*.so'))


def test_this_environment_finds_this_tree(a_config, tmp_path):
    find(ROOT / 'mmselfsup_invp', a_config, tmp_path)
