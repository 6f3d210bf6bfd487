"""The set-up: what it asks for, when it runs again, and what it says when something is missing."""

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / 'tools' / 'setup_env.py'


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What the set-up reads of this repository, alone in an empty folder."""
    (tmp_path / 'tools').mkdir()
    shutil.copy(SCRIPT, tmp_path / 'tools')
    for name in ('Makefile', 'setup.cfg', 'setup.py'):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / 'requirements', tmp_path / 'requirements')
    (tmp_path / 'mmselfsup_invp' / 'ops').mkdir(parents=True)
    shutil.copy(ROOT / 'mmselfsup_invp' / 'ops' / '_native.c', tmp_path / 'mmselfsup_invp' / 'ops')
    return tmp_path


@pytest.fixture
def env(clone: Path, monkeypatch: pytest.MonkeyPatch):
    """tools/setup_env.py of the clone, as a module."""
    for name in ('MMSELFSUP_INVP_CACHE', 'FORCE_CUDA', 'CXX', 'MAX_JOBS'):
        monkeypatch.delenv(name, raising=False)
    spec = importlib.util.spec_from_file_location('setup_env', clone / 'tools' / 'setup_env.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def steps(env, monkeypatch: pytest.MonkeyPatch) -> list:
    """Stands in for the long steps: keeps their names, and makes the files they would make."""
    done = []

    def step(title, log_name, *command, **variables):
        assert env.STAMP.read_text() == env.UNFINISHED
        done.append(log_name)
        words = [str(word) for word in command]
        if log_name == 'venv':
            env.PYTHON.parent.mkdir(parents=True)
            env.PYTHON.touch()
            made = f'version = {env.python_version()}.0\ncommand = python -m venv {env.VENV}\n'
            (env.VENV / 'pyvenv.cfg').write_text(made)
        if log_name == 'mmcv':
            Path(words[words.index('--wheel-dir') + 1], wheel_name(env)).touch()

    monkeypatch.setattr(env, 'step', step)
    monkeypatch.setattr(env, 'FREE_GB', 0)
    return done


def wheel_name(env, python: str = '', machine: str = '') -> str:
    python = python or 'cp{}{}'.format(*sys.version_info[:2])
    machine = machine or env.platform.machine()
    return f'mmcv-{env.locked_version("mmcv")}-{python}-{python}-linux_{machine}.whl'


def cache_wheel(env, name: str = '') -> Path:
    wheel = env.wheel_folder() / (name or wheel_name(env))
    wheel.parent.mkdir(parents=True, exist_ok=True)
    wheel.touch()
    return wheel


# ---- Python ----


def test_any_python_3_can_parse_the_script_and_needs_nothing_else():
    tree = ast.parse(SCRIPT.read_text(), feature_version=(3, 6))
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {getattr(node, 'module', None) or node.names[0].name for node in imports}
    assert {name.split('.')[0] for name in names} <= sys.stdlib_module_names


def test_supported_pythons_come_from_setup_cfg(env):
    assert env.supported_pythons() == ['3.11', '3.12']
    config = env.ROOT / 'setup.cfg'
    config.write_text(config.read_text().replace('>=3.11,<3.13', '>=3.11,<3.14'))
    assert env.supported_pythons() == ['3.11', '3.12', '3.13']


def test_an_unsupported_python_is_told_what_is_valid_and_what_to_do(env, monkeypatch):
    env.check_python()
    monkeypatch.setattr(env, 'python_version', lambda: '3.9')
    with pytest.raises(env.SetupError, match='3.11 or 3.12 is needed') as error:
        env.check_python()
    assert sys.executable in str(error.value)
    assert 'apt install python3.12 python3.12-venv' in str(error.value)
    assert 'PYTHON=/path/to/python3.12' in str(error.value)


def test_a_python_without_venv_is_told_the_package(env, monkeypatch):
    monkeypatch.setattr(env.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(env.SetupError, match='no module venv nor ensurepip') as error:
        env.check_venv_module()
    assert f'python{env.python_version()}-venv' in str(error.value)


# ---- compiler, headers, disk ----


def test_a_missing_compiler_is_named_with_ways_to_get_it(env, monkeypatch):
    monkeypatch.setenv('PATH', str(env.ROOT))
    with pytest.raises(env.SetupError, match='`c\\+\\+` was not found') as error:
        env.check_compiler()
    for way in ('apt install g++', 'dnf install gcc-c++', 'xcode-select', 'CXX='):
        assert way in str(error.value)


def test_the_users_compiler_may_hold_arguments(env, monkeypatch):
    monkeypatch.setenv('CXX', 'no-such-compiler -O1')
    with pytest.raises(env.SetupError, match='`no-such-compiler` was not found'):
        env.check_compiler()


def test_missing_headers_of_python_are_found_before_the_long_compile(env, monkeypatch):
    monkeypatch.setattr(env.sysconfig, 'get_path', lambda name: str(env.ROOT))
    monkeypatch.setenv('CXX', sys.executable)
    with pytest.raises(env.SetupError, match='Python.h is missing') as error:
        env.check_compiler()
    assert f'python{env.python_version()}-dev' in str(error.value)


def test_cuda_operations_need_the_cuda_toolkit(env, monkeypatch):
    monkeypatch.setattr(env, 'OPS', 'cuda')
    monkeypatch.setattr(env.sysconfig, 'get_path', lambda name: str(env.ROOT))
    (env.ROOT / 'Python.h').touch()
    monkeypatch.setenv('CXX', sys.executable)
    monkeypatch.setenv('PATH', str(env.ROOT))
    monkeypatch.delenv('CUDA_HOME', raising=False)
    with pytest.raises(env.SetupError, match='`nvcc` was not found'):
        env.check_compiler()
    monkeypatch.setenv('CUDA_HOME', str(env.ROOT))
    env.check_compiler()


def test_too_small_a_disk_is_refused(env, monkeypatch):
    monkeypatch.setattr(env, 'FREE_GB', 10**9)
    with pytest.raises(env.SetupError, match='GB are free'):
        env.check_disk()


def test_the_compiler_gets_the_users_command_and_cxx17_last(env, monkeypatch):
    monkeypatch.setenv('CXX', 'echo mine')
    env.CACHE.mkdir()
    with env.cxx17() as variables:
        command = [variables['CXX'], '-std=c++14', 'a file.cpp']
        out = subprocess.check_output(command, env={'PATH': variables['PATH']}, text=True)
        assert out == 'mine -std=c++14 a file.cpp -std=c++17\n'
    assert list(env.CACHE.iterdir()) == []


# ---- when it is ready ----


def test_the_key_follows_requirements_python_torch_operations_and_what_is_compiled(
    env, monkeypatch
):
    keys = {env.key(), env.key('cuda')}
    (env.ROOT / 'requirements' / 'tests.txt').write_text('pytest\n')
    keys.add(env.key())
    env.LOCKED.write_text(env.LOCKED.read_text().replace('torch==', 'torch==99.'))
    keys.add(env.key())
    for name in ('setup.cfg', 'mmselfsup_invp/ops/search/_native.c'):
        with (env.ROOT / name).open('a') as file:
            file.write('\n')
        keys.add(env.key())
    monkeypatch.setattr(env, 'python_version', lambda: '3.12' if sys.version_info[1] == 11 else '')
    keys.add(env.key())
    assert len(keys) == 7


def test_ready_means_a_stamp_with_the_present_key(env):
    assert not env.is_ready()
    env.VENV.mkdir()
    for text, ready in [
        (env.UNFINISHED, False),
        ('an older key', False),
        (env.key('cpu'), True),
        (env.key('cuda'), True),
    ]:
        env.STAMP.write_text(text)
        assert env.is_ready() is ready
        assert env.main(['--ready']) == (0 if ready else 1)
    env.LOCKED.write_text(env.LOCKED.read_text() + '# changed\n')
    assert not env.is_ready()


def test_cuda_operations_asked_for_are_not_served_by_the_cpu_ones(env, monkeypatch):
    env.VENV.mkdir()
    env.STAMP.write_text(env.key('cpu'))
    monkeypatch.setenv('FORCE_CUDA', '1')
    command = [sys.executable, env.ROOT / 'tools' / 'setup_env.py', '--ready']
    assert subprocess.call(command) == 1
    env.STAMP.write_text(env.key('cuda'))
    assert subprocess.call(command) == 0


def test_a_package_that_is_not_pinned_is_named(env):
    with pytest.raises(env.SetupError, match='does not pin nothing'):
        env.locked_version('nothing')


# ---- the wheel of mmcv ----


def test_only_a_wheel_for_this_python_machine_and_torch_is_taken(env):
    assert env.find_mmcv_wheel() is None
    cache_wheel(env, wheel_name(env, python='cp310'))
    cache_wheel(env, wheel_name(env, machine='other'))
    assert env.find_mmcv_wheel() is None
    wheel = cache_wheel(env)
    assert env.find_mmcv_wheel() == wheel
    env.LOCKED.write_text(env.LOCKED.read_text().replace('torch==', 'torch==99.'))
    assert env.find_mmcv_wheel() is None


def test_the_cache_can_be_shared(env, clone, monkeypatch):
    assert env.wheel_folder().is_relative_to(clone / '.cache')
    monkeypatch.setenv('MMSELFSUP_INVP_CACHE', str(clone / 'shared'))
    spec = importlib.util.spec_from_file_location('again', clone / 'tools' / 'setup_env.py')
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    assert again.wheel_folder().parent == clone / 'shared' / 'wheels'


def test_the_compile_sees_no_gpu_and_leaves_only_the_wheel(env, monkeypatch):
    seen = {}

    def pip(title, log_name, *arguments, **variables):
        if log_name == 'mmcv':
            seen.update(variables, arguments=arguments)
            Path(arguments[arguments.index('--wheel-dir') + 1], wheel_name(env)).touch()

    monkeypatch.setattr(env, 'pip', pip)
    wheel = env.compile_mmcv()
    assert wheel == env.find_mmcv_wheel()
    assert list(wheel.parent.iterdir()) == [wheel]
    assert seen['CUDA_VISIBLE_DEVICES'] == '' and seen['MMCV_WITH_OPS'] == '1'
    assert int(seen['MAX_JOBS']) >= 1
    assert '--no-cache-dir' in seen['arguments'], "pip's cache does not know torch versions"


def test_a_failed_compile_leaves_the_cache_empty(env, monkeypatch):
    def pip(title, log_name, *arguments, **variables):
        if log_name == 'mmcv':
            raise env.SetupError('no')

    monkeypatch.setattr(env, 'pip', pip)
    with pytest.raises(env.SetupError):
        env.compile_mmcv()
    assert env.find_mmcv_wheel() is None and list(env.wheel_folder().iterdir()) == []


# ---- the steps ----

INSTALL = ['mmcv-install', 'packages', 'editable', 'check', 'operations']


def test_a_first_set_up_compiles_and_a_second_does_nothing(env, steps, monkeypatch):
    monkeypatch.setattr(env, 'check_compiler', lambda: None)
    assert env.main([]) == 0
    assert steps == ['venv', 'torch', 'mmcv', *INSTALL]
    assert env.main([]) == 0
    assert len(steps) == 3 + len(INSTALL)


def test_with_a_cached_wheel_no_compiler_is_needed(env, steps, monkeypatch):
    cache_wheel(env)
    monkeypatch.setenv('CXX', 'no-such-compiler')
    assert env.main([]) == 0
    assert steps == ['venv', *INSTALL]


def test_changed_requirements_update_the_same_venv(env, steps):
    cache_wheel(env)
    env.main([])
    kept = env.VENV / 'kept'
    kept.touch()
    env.LOCKED.write_text(env.LOCKED.read_text() + '# changed\n')
    assert env.main([]) == 0
    assert steps == ['venv', *INSTALL, *INSTALL]
    assert kept.exists()


def unfinished(env):
    env.STAMP.write_text(env.UNFINISHED)


def made_with_another_python(env):
    (env.VENV / 'pyvenv.cfg').write_text(f'version = 3.1.0\ncommand = python -m venv {env.VENV}')
    env.STAMP.write_text('an older key')


def moved_here(env):
    (env.VENV / 'pyvenv.cfg').write_text(
        f'version = {env.python_version()}.0\ncommand = python -m venv /elsewhere/.venv'
    )
    env.STAMP.write_text('an older key')


@pytest.mark.parametrize('damage', [unfinished, made_with_another_python, moved_here])
def test_a_venv_that_is_of_no_use_is_made_anew(env, steps, damage):
    cache_wheel(env)
    env.main([])
    (env.VENV / 'lib64').symlink_to('lib')
    (env.VENV / 'rest').mkdir()
    damage(env)
    assert env.main([]) == 0
    assert steps == ['venv', *INSTALL] * 2
    assert not (env.VENV / 'rest').exists() and env.is_ready()


def test_a_venv_that_make_did_not_make_is_left_alone(env, steps, capsys):
    cache_wheel(env)
    mine = env.VENV / 'mine'
    mine.mkdir(parents=True)
    assert env.main([]) == 1
    assert mine.exists() and steps == []
    assert 'did not make it' in capsys.readouterr().err


@pytest.mark.parametrize('stop, code', [(KeyboardInterrupt, 130), (None, 1)])
def test_what_was_stopped_or_failed_is_taken_up_again(env, steps, monkeypatch, stop, code):
    cache_wheel(env)

    def verify():
        raise stop or env.SetupError('packages do not fit')

    with monkeypatch.context() as patch:
        patch.setattr(env, 'verify', verify)
        assert env.main([]) == code
        assert not env.is_ready()
    assert env.main([]) == 0
    assert env.is_ready()


def test_a_step_shows_the_end_of_its_log_and_what_to_do(env, capsys):
    code = "print('first'); print('x\\n' * 40); print('g++: fatal error: Killed'); exit(3)"
    with pytest.raises(env.SetupError) as error:
        env.step('Trying (1 s)', 'trying', sys.executable, '-c', code)
    assert capsys.readouterr().out == '==> Trying (1 s)\n'
    text = str(error.value)
    assert 'Killed' in text and 'first' not in text
    assert 'MAX_JOBS=1' in text
    log = env.CACHE / 'logs' / 'trying.log'
    assert str(log) in text and log.read_text().startswith('first')


def test_an_unreachable_package_index_is_explained(env):
    code = "exit('Failed to establish: NewConnectionError')"
    with pytest.raises(env.SetupError, match='PIP_INDEX_URL'):
        env.step('Trying', 'trying', sys.executable, '-c', code)


def test_a_step_is_not_led_astray_by_the_users_environment(env, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', '/somewhere')
    monkeypatch.setenv('PIP_USER', '1')
    monkeypatch.setenv('PIP_INDEX_URL', 'kept')
    names = {'PYTHONPATH', 'PIP_USER', 'PIP_INDEX_URL', 'ADDED'}
    code = f'import os; print(sorted({names} & {{*os.environ}}))'
    env.step('Trying', 'trying', sys.executable, '-c', code, ADDED='1')
    assert (env.CACHE / 'logs' / 'trying.log').read_text() == "['ADDED', 'PIP_INDEX_URL']\n"


# ---- the Makefile ----


def make(clone: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    # A make that runs these tests must not hand its own variables down.
    ours = (
        'MAKE',
        'MFLAGS',
        'PYTHON',
        'PIP_CACHE',
        'MPL',
        'XDG_CACHE',
        'MMSELFSUP',
        'FORCE_',
        'ARGS',
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return subprocess.run(
        ['make', *arguments], cwd=clone, env={**env, **variables}, capture_output=True, text=True
    )


def fake_program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f'#!/bin/sh\n{script}\n')
    (folder / name).chmod(0o755)


def only(clone: Path, *tools: str) -> str:
    """A PATH that leads to the named tools and to what the test puts there."""
    folder = clone / 'bin'
    folder.mkdir(exist_ok=True)
    for tool in ('sh', 'sed', 'make', *tools):
        (folder / tool).symlink_to(shutil.which(tool))
    return str(folder)


def test_help_is_the_default_and_names_every_target_and_variable(clone):
    result = make(clone)
    assert result.returncode == 0
    assert result.stdout == make(clone, 'help').stdout
    phony = next(line for line in (clone / 'Makefile').read_text().splitlines() if '.PHONY' in line)
    described = [line.split()[0] for line in result.stdout.splitlines() if line.startswith('  ')]
    for target in phony.split()[1:]:
        assert target in described
    for variable in ('PYTHON=', 'CXX=', 'FORCE_CUDA=1', 'MMSELFSUP_INVP_CACHE=', 'ARGS='):
        assert variable in result.stdout


def test_test_sets_up_then_checks_the_style_then_runs_pytest(clone):
    plan = make(clone, '-n', 'test', 'ARGS=-k graph').stdout
    order = ['setup_env.py', 'ruff format --check', 'ruff check', '-m pytest -k graph']
    found = [plan.find(word) for word in order]
    assert -1 not in found and found == sorted(found)


def test_demo_sets_up_then_runs_the_demo(clone):
    plan = make(clone, '-n', 'demo').stdout
    assert 0 <= plan.find('setup_env.py') < plan.find('.venv/bin/python tools/demo.py')


def test_ci_runs_make_test_and_nothing_of_its_own():
    lines = (ROOT / '.ci' / 'run').read_text().splitlines()
    assert lines[-1] == 'exec make test' and len(lines) == 4
    assert os.access(ROOT / '.ci' / 'run', os.X_OK)


def test_caches_stay_in_the_clone_unless_the_user_says_otherwise(clone):
    show = '--eval=show:; @echo "$$PIP_CACHE_DIR $$MPLCONFIGDIR $$XDG_CACHE_HOME"'
    paths = make(clone, show, 'show').stdout.split()
    assert len(paths) == 3 and all(path.startswith(f'{clone}/.cache/') for path in paths)
    paths = make(clone, show, 'show', PIP_CACHE_DIR='/mine', MMSELFSUP_INVP_CACHE='/x').stdout
    assert paths.split()[0] == '/mine'
    paths = make(clone, show, 'show', MMSELFSUP_INVP_CACHE='/shared').stdout
    assert paths.split()[0] == '/shared/pip'


def test_a_shim_that_does_not_run_is_passed_over(clone):
    path = only(clone)
    fake_program(clone / 'bin', 'python3.11', 'echo "not installed" >&2; exit 127')
    fake_program(
        clone / 'bin', 'python3.12', '[ "$*" = tools/setup_env.py ] && echo chosen; exit 0'
    )
    result = make(clone, 'setup', PATH=path)
    assert (result.returncode, result.stdout) == (0, 'chosen\n'), result.stderr


def test_the_python_of_an_existing_venv_comes_first(clone):
    path = only(clone)
    for name in ('python3.11', 'python3.12', 'mine'):
        fake_program(clone / 'bin', name, f'[ "$*" = tools/setup_env.py ] && echo {name}; exit 0')
    assert make(clone, 'setup', PATH=path).stdout == 'python3.11\n'
    (clone / '.venv').mkdir()
    (clone / '.venv' / 'pyvenv.cfg').write_text(f'home = x\nexecutable = {path}/mine\n')
    assert make(clone, 'setup', PATH=path).stdout == 'mine\n'
    assert make(clone, 'setup', 'PYTHON=python3.12', PATH=path).stdout == 'python3.12\n'


def test_without_a_usable_python_it_says_what_was_tried(clone):
    path = only(clone)
    fake_program(clone / 'bin', 'python3.11', 'exit 127')
    result = make(clone, 'setup', PATH=path)
    assert result.returncode != 0
    assert 'No usable Python among:  python3.11 python3.12 python3' in result.stderr
    assert 'None of them runs' in result.stderr and 'PYTHON=' in result.stderr


def test_an_old_python_explains_itself(clone):
    path = only(clone)
    script = 'case "$*" in *--python) echo "is Python 3.9; 3.11 is needed" >&2; exit 1;; esac'
    fake_program(clone / 'bin', 'python3', script)
    result = make(clone, 'setup', PATH=path)
    assert result.returncode != 0
    assert 'is Python 3.9; 3.11 is needed' in result.stderr


def test_a_finished_set_up_starts_no_other_python(clone, env):
    env.PYTHON.parent.mkdir(parents=True)
    env.PYTHON.symlink_to(sys.executable)
    env.STAMP.write_text(env.key())
    path = only(clone)
    fake_program(clone / 'bin', 'python3.11', 'echo started; exit 1')
    result = make(clone, 'setup', PATH=path)
    assert (result.returncode, result.stdout, result.stderr) == (0, '', '')
