"""The set-up by make: which Python it takes, when it runs again, and what it reports."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Stands in for a Python: passes the check of its version, creates .venv, and records its calls.
PYTHON = """#!/bin/sh
echo "$(basename "$0") $*" | head -n 1 >> calls
case "$*" in
    *ensurepip*) exit 0 ;;
    *--version) echo Python 3.11.0 ;;
    *'-m venv .venv') mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
    *'install --requirement'*) [ ! -e fail ] ;;
esac
"""
# A shim of a version manager, and an unsupported Python.
SHIM = '#!/bin/sh\necho "pyenv: version not installed" >&2\nexit 127\n'
OLD = '#!/bin/sh\necho "is Python 3.9.2" >&2\nexit 1\n'
COMMANDS = (
    *('sh', 'sed', 'make', 'dirname', 'basename', 'mkdir', 'touch', 'find', 'tail', 'head', 'cat'),
    *('cksum', 'mv', 'cp', 'mktemp', 'rm', 'echo', 'chmod', 'expand', 'printf', 'pwd'),
)


class Clone:
    """A copy of what the set-up reads, in which only the given commands exist."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ('Makefile', 'setup.cfg', 'setup.py', 'requirements', 'tools'):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, root / name)
        (root / 'bin').mkdir()
        for command in COMMANDS:
            (root / 'bin' / command).symlink_to(shutil.which(command))

    def add(self, name: str, script: str = PYTHON) -> Path:
        path = self.root / 'bin' / name
        path.write_text(script)
        path.chmod(0o755)
        return path

    def make(self, *words: str, **variables: str) -> subprocess.CompletedProcess:
        """Run make; the variables of a make that runs these tests are not passed on."""
        kept = {name: os.environ[name] for name in ('HOME', 'TMPDIR') if name in os.environ}
        env = {**kept, 'PATH': str(self.root / 'bin'), **variables}
        command = [self.root / 'bin' / 'make', *words]
        return subprocess.run(command, cwd=self.root, env=env, capture_output=True, text=True)

    def calls(self, pattern: str) -> list[str]:
        """Calls of Python that match a pattern; they are forgotten afterwards."""
        path = self.root / 'calls'
        lines = path.read_text().splitlines() if path.exists() else []
        path.write_text('')
        return [line for line in lines if re.search(pattern, line)]


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_help_is_the_default_and_names_every_target_and_variable(clone):
    shown = clone.make().stdout
    assert shown == clone.make('help').stdout
    targets = re.search(r'^\.PHONY: (.*)$', (ROOT / 'Makefile').read_text(), re.MULTILINE)[1]
    assert set(re.findall(r'^  ([a-z]+)  ', shown, re.MULTILINE)) == set(targets.split())
    for variable in ('ARGS', 'PYTHON', 'PYTHON312', 'MMSELFSUP_INVP_CACHE', 'CXX', 'MAX_JOBS',
                     'FORCE_CUDA'):  # fmt: skip
        assert f'{variable}=' in shown


@pytest.mark.parametrize(
    ('target', 'order'),
    [
        (
            'test',
            ['-m mypy', 'ruff format --check', 'ruff check', "not slow and not detection' -k"],
        ),
        ('detection', ['build_mmcv.sh', 'uninstall', 'import mmcv.ops', '-m pytest -m detection']),
        ('demo', ['tools/demo.py -k']),
        ('docs', ['requirements/docs.txt', '-m sphinx -W']),
        ('hosts', ['venv --clear .venv-mmpretrain', 'host-mmpretrain.txt', 'tests/test_hosts.py']),
    ],
)
def test_targets_set_up_first(clone, target, order):
    plan = clone.make('-n', target, 'ARGS=-k graph').stdout
    found = [plan.find(word) for word in ('create_venv.sh', 'locked.txt', 'editable', *order)]
    assert -1 not in found and found == sorted(found)


def test_the_maintained_packages_are_installed_for_python_312(clone):
    for words, python in [((), 'python3.12'), (('PYTHON312=my312',), 'my312')]:
        plan = clone.make('-n', 'hosts', *words).stdout
        assert f'{python} -m venv --clear .venv-onedl-mmpretrain\n' in plan
        assert '.venv/bin/python -m venv --clear .venv-mmpretrain\n' in plan


def test_a_second_set_up_does_nothing(clone):
    clone.add('python3.11')
    assert clone.make('setup').returncode == 0
    assert clone.calls('-m (venv|pip)') == [
        'python3.11 -m venv .venv',
        'python -m pip --disable-pip-version-check install --requirement requirements/locked.txt',
        'python -m pip --disable-pip-version-check install --quiet --no-deps '
        '--no-build-isolation --editable .',
        'python -m pip --disable-pip-version-check check',
    ]
    assert clone.make('setup').returncode == 0
    assert clone.calls('') == []


def test_changed_files_repeat_the_steps_that_read_them(clone):
    clone.add('python3.11')
    clone.make('setup')
    kept = clone.root / '.venv' / 'kept'
    for name, repeated in [('setup.cfg', False), ('requirements/locked.txt', True)]:
        kept.touch()
        clone.calls('')
        os.utime(clone.root / name, (2**32, 2**32))
        assert clone.make('setup').returncode == 0
        assert len(clone.calls('editable')) == 1
        assert kept.exists() is not repeated
        os.utime(clone.root / name, (0, 0))


def test_an_interrupted_set_up_starts_with_an_empty_environment(clone):
    clone.add('python3.11')
    (clone.root / 'fail').touch()
    assert clone.make('setup').returncode != 0
    (clone.root / '.venv' / 'half-installed').touch()
    (clone.root / 'fail').unlink()
    assert clone.make('setup').returncode == 0
    assert not (clone.root / '.venv' / 'half-installed').exists()


def test_a_moved_clone_is_set_up_again(clone, tmp_path_factory):
    clone.add('python3.11')
    clone.make('setup')
    clone.calls('')
    moved = tmp_path_factory.mktemp('moved') / 'clone'
    clone.root = clone.root.rename(moved)
    assert clone.make('setup').returncode == 0
    assert len(clone.calls('-m venv')) == 1


def test_another_environment_is_left_alone(clone):
    clone.add('python3.11')
    (clone.root / '.venv').mkdir()
    done = clone.make('setup')
    assert done.returncode != 0 and 'make did not create it' in done.stderr
    assert not clone.calls('-m venv')


def test_a_candidate_that_does_not_run_is_passed_over(clone):
    clone.add('python3.11', SHIM)
    clone.add('python3.12')
    assert clone.make('setup').returncode == 0
    assert clone.calls('-m venv') == ['python3.12 -m venv .venv']


def test_the_named_python_is_taken(clone):
    clone.add('python3.11')
    mine = clone.add('mine')
    assert clone.make('setup', f'PYTHON={mine}').returncode == 0
    assert clone.calls('-m venv') == ['mine -m venv .venv']


def test_without_a_usable_python_all_candidates_are_reported(clone):
    clone.add('python3.11', SHIM)
    clone.add('python3', OLD)
    done = clone.make('setup')
    assert done.returncode != 0
    assert 'Needed: 3.11 to 3.12 with the modules venv and ensurepip.' in done.stderr
    assert 'python3.11: pyenv: version not installed\n' in done.stderr
    assert re.search(r'python3.12: .*not found\n', done.stderr)
    assert 'python3: is Python 3.9.2\n' in done.stderr
    assert 'apt install python3.12 python3.12-venv' in done.stderr and 'PYTHON=' in done.stderr


def test_caches_stay_in_the_clone_unless_they_are_set(clone):
    show = '--eval=show:; @echo "$$PIP_CACHE_DIR $$MPLCONFIGDIR $$XDG_CACHE_HOME"'
    paths = clone.make(show, 'show').stdout.split()
    assert len(paths) == 3 and all(path.startswith(f'{clone.root}/.cache/') for path in paths)
    paths = clone.make(show, 'show', MMSELFSUP_INVP_CACHE='/shared', MPLCONFIGDIR='/mine').stdout
    assert paths.split()[:2] == ['/shared/pip', '/mine']


class TestBuildMMCV:
    @pytest.fixture
    def build(self, clone):
        """Run the script with a Python that reports torch and, as pip, writes a wheel."""
        version = re.search('==(.*)', (ROOT / 'requirements/locked-detection.txt').read_text())[1]
        script = (
            '#!/bin/sh\ncase "$*" in\n'
            '    *torch.__version__*) echo torch-9-cp311-any ;;\n'
            f'    *sysconfig*) echo {clone.root} ;;\n'
            '    *psutil*) echo 2 ;;\n'
            '    *wheel-dir*) env > variables; "$CXX" -std=c++14 "a b.cpp" > compiled\n'
            '        while [ "$1" != --wheel-dir ]; do shift; done\n'
            f'        mkdir "$2"; : > "$2/mmcv-{version}-cp311.whl" ;;\nesac\n'
        )
        python = clone.add('python', script)
        clone.add('c++', '#!/bin/sh\nprintf "%s|" "$@"\n')
        clone.add('env', f'#!/bin/sh\nexec {shutil.which("env")} "$@"\n')
        (clone.root / 'Python.h').touch()

        def build(*words, **variables):
            return subprocess.run(
                ['sh', 'tools/build_mmcv.sh', python, *words],
                cwd=clone.root,
                env={'PATH': str(clone.root / 'bin'), **variables},
                capture_output=True,
                text=True,
            )

        return build

    def test_the_wheel_is_compiled_once_for_a_version_of_torch(self, build, clone):
        assert build('--path').stdout == ''
        done = build()
        assert done.returncode == 0, done.stderr
        (wheel,) = clone.root.glob('.cache/mmcv/torch-9-cp311-any-cpu/*.whl')
        assert build('--path').stdout == f'{wheel}\n'
        variables = (clone.root / 'variables').read_text().splitlines()
        assert {'MMCV_WITH_OPS=1', 'MAX_JOBS=2', 'CUDA_VISIBLE_DEVICES='} <= {*variables}
        assert (clone.root / 'compiled').read_text() == '-std=c++14|a b.cpp|-std=c++17|'
        (clone.root / 'bin' / 'c++').unlink()  # No longer needed.
        assert build().returncode == 0
        assert build('--path', FORCE_CUDA='1').stdout == ''

    def test_missing_parts_are_named(self, build, clone):
        assert 'nvcc was not found' in build(FORCE_CUDA='1').stderr
        (clone.root / 'Python.h').unlink()
        assert 'Python.h is missing' in build().stderr
        message = build(CXX='no-such-compiler -O1').stderr
        assert 'No C++ compiler: no-such-compiler was not found' in message
        assert 'apt install g++' in message

    def test_a_failed_build_shows_the_end_of_its_log(self, build, clone):
        clone.add('c++', '#!/bin/sh\nexit 1\n')
        python = clone.root / 'bin' / 'python'
        python.write_text(python.read_text().replace('> compiled', '|| { echo broken; exit 1; }'))
        done = build()
        assert done.returncode == 1 and 'broken' in done.stderr
        assert 'MAX_JOBS=1' in done.stderr
        assert not list(clone.root.glob('.cache/mmcv/*/*.whl'))
