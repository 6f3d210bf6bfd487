"""Make the environment `.venv`: the pinned packages, mmcv compiled once, this package editable.

The Makefile runs this file with the Python it found, so it needs the standard library only. Its
syntax stays old on purpose: an unsupported Python must live long enough to say so.

    --ready    exit with 0 if .venv is complete and up to date, else with 1
    --python   exit with 0 if the running Python is supported, else say what is wrong
"""

import configparser
import contextlib
import fcntl
import hashlib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Optional

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / '.venv'
PYTHON = VENV / 'bin' / 'python'
CACHE = Path(os.environ.get('MMSELFSUP_INVP_CACHE') or ROOT / '.cache').expanduser().resolve()
LOCK = ROOT / '.cache' / 'setup.lock'
LOCKED = ROOT / 'requirements' / 'locked.txt'

# Holds `key()` of a complete .venv, UNFINISHED of one in the making; without it .venv is not ours.
STAMP = VENV / 'made_by_setup_env'
UNFINISHED = 'unfinished'

# mmcv's own switch: 1 compiles its CUDA operations too.
OPS = 'cuda' if os.environ.get('FORCE_CUDA') == '1' else 'cpu'

FREE_GB = 12
LOG_LINES = 30
GB_PER_JOB = 2

HINTS = {
    r'NewConnectionError|NameResolutionError|ConnectTimeout|Read timed out': (
        'The package index could not be reached: check the network or the proxy (HTTPS_PROXY), '
        'or name an index that you can reach (PIP_INDEX_URL).'
    ),
    r'[Kk]illed|virtual memory exhausted|cannot allocate memory': (
        'The memory ran out: compile one file at a time with  make MAX_JOBS=1 ...'
    ),
    r'No space left on device': f'The disk is full; {FREE_GB} GB are needed.',
}


class SetupError(Exception):
    """What was found, what is needed, what to do."""


# ---- what is wanted ------------------------------------------------------------------------------


def python_version() -> str:
    return '{}.{}'.format(*sys.version_info[:2])


def supported_pythons() -> list:
    """['3.11', '3.12'], read from setup.cfg, which is the one place that says so."""
    config = configparser.ConfigParser()
    config.read(str(ROOT / 'setup.cfg'))
    wanted = config['options']['python_requires']
    low, high = re.match(r'>=3\.(\d+),<3\.(\d+)$', wanted).groups()
    return [f'3.{minor}' for minor in range(int(low), int(high))]


def locked_version(package: str) -> str:
    pinned = re.search(rf'^{package}==(\S+)$', LOCKED.read_text(), re.MULTILINE)
    if pinned is None:
        raise SetupError(f'{LOCKED} does not pin {package}. Add the line {package}==VERSION.')
    return pinned.group(1)


def key(ops: str = OPS) -> str:
    """Changes when .venv has to be brought up to date."""
    inputs = [*sorted((ROOT / 'requirements').glob('*.txt')), ROOT / 'setup.cfg', ROOT / 'setup.py']
    inputs.append(ROOT / 'mmselfsup_invp' / 'ops' / 'search' / '_native.c')
    content = hashlib.sha256(b'\0'.join(path.read_bytes() for path in inputs)).hexdigest()
    torch = locked_version('torch')
    return f'python {python_version()}, torch {torch}, {ops} operations, {content}'


def is_ready() -> bool:
    """Whether nothing is to be done. A .venv with CUDA operations serves the CPU as well."""
    return STAMP.is_file() and STAMP.read_text() in {key(), key('cuda')}


def wheel_folder() -> Path:
    """Where compiled mmcv wheels are kept: they fit the one torch they were compiled against."""
    return CACHE / 'wheels' / 'torch-{}-{}'.format(locked_version('torch'), OPS)


def find_mmcv_wheel() -> Optional[Path]:
    tag = 'cp{}{}'.format(*sys.version_info[:2])
    name = 'mmcv-{}-{}-*{}.whl'.format(locked_version('mmcv'), tag, platform.machine())
    return next(wheel_folder().glob(name), None)


# ---- what is there -------------------------------------------------------------------------------


def how_to_get(apt: str, dnf: str, brew: str) -> str:
    return (
        f'    Debian, Ubuntu:  sudo apt install {apt}\n'
        f'    Fedora, RHEL:    sudo dnf install {dnf}\n'
        f'    macOS:           {brew}'
    )


def how_to_get_python(version: str, apt_part: str, dnf_part: str = '') -> str:
    name = f'python{version}'
    return how_to_get(
        f'{name} {name}{apt_part}', f'{name}{dnf_part}', f'brew install python@{version}'
    )


def check_python() -> None:
    supported = supported_pythons()
    if python_version() in supported:
        return
    newest = supported[-1]
    raise SetupError(
        f'{sys.executable} is Python {platform.python_version()}; '
        f'Python {" or ".join(supported)} is needed. Get one:\n'
        + how_to_get_python(newest, '-venv')
        + f'\nOr name one that you have:  make PYTHON=/path/to/python{newest} ...'
    )


def check_venv_module() -> None:
    missing = [name for name in ('venv', 'ensurepip') if importlib.util.find_spec(name) is None]
    if missing:
        raise SetupError(
            f'{sys.executable} has no module {" nor ".join(missing)}, which .venv is made with. '
            'Get it:\n' + how_to_get_python(python_version(), '-venv')
        )


def check_disk() -> None:
    free = shutil.disk_usage(str(ROOT)).free / 1e9
    if free < FREE_GB:
        raise SetupError(
            f'{free:.1f} GB are free on the disk of {ROOT}; {FREE_GB} GB are needed for PyTorch '
            'and what comes with it. Free some, or move the clone to a larger disk.'
        )


def compiler() -> str:
    """The C++ compiler's command: the user's CXX, which may hold arguments, or c++."""
    return os.environ.get('CXX') or 'c++'


def check_compiler() -> None:
    program = shlex.split(compiler())[0]
    if shutil.which(program) is None:
        raise SetupError(
            f'No C++ compiler: `{program}` was not found on the PATH. mmcv is compiled once, with '
            'its operations. Get one:\n'
            + how_to_get('g++', 'gcc-c++', 'xcode-select --install')
            + '\nOr name one that you have:  make CXX=clang++ ...'
        )
    header = Path(sysconfig.get_path('include')) / 'Python.h'
    if not header.is_file():
        raise SetupError(
            f'{header} is missing; compiling mmcv needs the headers of Python. Get them:\n'
            + how_to_get_python(python_version(), '-dev', '-devel')
        )
    if OPS == 'cuda' and not (os.environ.get('CUDA_HOME') or shutil.which('nvcc')):
        raise SetupError(
            'FORCE_CUDA=1 asks for CUDA operations, but `nvcc` was not found on the PATH and '
            'CUDA_HOME is not set.\nInstall the CUDA toolkit of the version that torch names '
            '(torch.version.cuda), or leave FORCE_CUDA out: then mmcv is compiled for the CPU.'
        )


# ---- steps ---------------------------------------------------------------------------------------


def clean_environment() -> dict:
    """The user's environment without what would lead Python or pip out of .venv."""
    out = {'PYTHONHOME', 'PYTHONPATH', 'PIP_USER', 'PIP_TARGET', 'PIP_PREFIX', 'PIP_REQUIRE_HASHES'}
    kept = {name: value for name, value in os.environ.items() if name not in out}
    return {**kept, 'PIP_DISABLE_PIP_VERSION_CHECK': '1'}


def failure(title: str, log: Path) -> str:
    """The end of a failed step's log and, for the usual causes, what to do."""
    text = log.read_text(errors='replace')
    advice = [hint for cause, hint in HINTS.items() if re.search(cause, text)]
    tail = text.splitlines()[-LOG_LINES:]
    again = 'The same command takes the set-up up again.'
    return '\n'.join([*tail, '', f'This step failed: {title}', f'Its log: {log}', *advice, again])


def step(title: str, log_name: str, *command: object, **variables: str) -> None:
    """Say what is done, do it with its output in a log, and show the log's end if it fails."""
    print(f'==> {title}', flush=True)
    log = CACHE / 'logs' / f'{log_name}.log'
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log.open('w') as output:
        code = subprocess.call(
            [str(word) for word in command],
            cwd=str(ROOT),
            env={**clean_environment(), **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    if code != 0:
        raise SetupError(failure(title, log))
    print(f'    done in {time.monotonic() - started:.0f} s', flush=True)


def pip(title: str, log_name: str, *arguments: object, **variables: str) -> None:
    step(title, log_name, PYTHON, '-m', 'pip', *arguments, **variables)


def venv_is_usable() -> bool:
    """Whether .venv was finished once, for this Python, at this place (a moved one is broken)."""
    if STAMP.read_text() == UNFINISHED or not PYTHON.exists():
        return False
    made = (VENV / 'pyvenv.cfg').read_text()
    return f'version = {python_version()}.' in made and made.rstrip().endswith(f'venv {VENV}')


def empty_venv() -> None:
    """Remove all but the stamp, so that a .venv whose removal was interrupted is still ours."""
    STAMP.write_text(UNFINISHED)
    for path in VENV.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(str(path))
        elif path != STAMP:
            path.unlink()


def make_venv() -> None:
    VENV.mkdir(exist_ok=True)
    if any(VENV.iterdir()) and not STAMP.is_file():
        raise SetupError(
            f'{VENV} exists, but `make` did not make it. Move it away or remove it '
            f'(rm -rf {VENV}), then run the same command again.'
        )
    if STAMP.is_file() and venv_is_usable():
        STAMP.write_text(UNFINISHED)
        return
    if STAMP.is_file():
        print('==> Removing a .venv that was not finished, or not made for this Python', flush=True)
    empty_venv()
    check_disk()
    version = platform.python_version()
    step(f'Making .venv with Python {version} (10 s)', 'venv', sys.executable, '-m', 'venv', VENV)


def jobs() -> int:
    """How many files to compile at a time; mmcv itself would take 4 where memory is for fewer."""
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9
    return max(1, min(os.cpu_count() or 1, int(memory // GB_PER_JOB)))


@contextlib.contextmanager
def cxx17():
    """A compiler for mmcv, whose setup.py asks for C++14; the headers of torch need C++17.

    Of two `-std` the last one counts. The folder goes on the PATH, so blanks in it do no harm.
    """
    with tempfile.TemporaryDirectory(dir=str(CACHE)) as folder:
        wrapper = Path(folder, 'cxx17')
        wrapper.write_text(f'#!/bin/sh\nexec {compiler()} "$@" -std=c++17\n')
        wrapper.chmod(0o755)
        yield {
            'CXX': wrapper.name,
            'NVCC_APPEND_FLAGS': '-std=c++17',
            'PATH': os.pathsep.join([folder, os.environ.get('PATH', os.defpath)]),
        }


def compile_mmcv() -> Path:
    """Compile mmcv against the pinned torch; the wheel enters the cache whole or not at all."""
    pip(
        'Installing PyTorch {} (3 GB to download; 2 to 10 minutes)'.format(locked_version('torch')),
        'torch',
        *('install', '--constraint', LOCKED),
        *('torch', 'numpy', 'ninja', 'psutil', 'setuptools', 'wheel'),
    )
    # A GPU without the CUDA toolkit would fail the build, so torch sees none unless asked for.
    hidden = {} if OPS == 'cuda' else {'CUDA_VISIBLE_DEVICES': ''}
    version = locked_version('mmcv')
    folder = wheel_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with cxx17() as variables, tempfile.TemporaryDirectory(dir=str(folder)) as built:
        # pip's own cache would give a wheel that was compiled against another torch.
        pip(
            f'Compiling mmcv {version} with its operations, once (6 minutes on 2 cores)',
            'mmcv',
            *('wheel', '--no-build-isolation', '--no-deps', '--no-cache-dir', '--use-pep517'),
            *('--no-binary', 'mmcv', '--wheel-dir', built, f'mmcv=={version}'),
            MMCV_WITH_OPS='1',
            MAX_JOBS=os.environ.get('MAX_JOBS') or str(jobs()),
            **hidden,
            **variables,
        )
        (wheel,) = Path(built).glob('*.whl')
        os.replace(str(wheel), str(folder / wheel.name))
    return folder / wheel.name


def install(wheel: Path) -> None:
    # Another wheel of the same version (another torch, CUDA) has to replace the one that is there.
    pip('Installing mmcv (5 s)', 'mmcv-install', 'install', '--no-deps', '--force-reinstall', wheel)
    pip(
        'Installing the packages of requirements/locked.txt '
        '(1 minute; 2 to 10 if PyTorch is not downloaded yet)',
        'packages',
        *('install', '--requirement', LOCKED),
    )
    pip(
        'Installing mmselfsup_invp, editable (5 s)',
        'editable',
        *('install', '--no-deps', '--no-build-isolation', '--editable', ROOT),
    )


def verify() -> None:
    pip('Checking that the packages fit together (5 s)', 'check', 'check')
    step("Checking mmcv's operations (10 s)", 'operations', PYTHON, '-c', 'import mmcv.ops')


@contextlib.contextmanager
def alone():
    """Two set-ups of one clone at a time would break each other: the second one waits."""
    LOCK.parent.mkdir(exist_ok=True)
    with LOCK.open('w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print('==> Waiting for another set-up to end', flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def set_up() -> None:
    check_python()
    with alone():
        if is_ready():
            return
        check_venv_module()
        wheel = find_mmcv_wheel()
        if wheel is None:
            check_compiler()
        make_venv()
        install(wheel or compile_mmcv())
        verify()
        STAMP.write_text(key())
    print('==> .venv is ready', flush=True)


def main(arguments: list) -> int:
    try:
        if arguments == ['--ready']:
            return 0 if is_ready() else 1
        if arguments == ['--python']:
            check_python()
        else:
            set_up()
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\nInterrupted. The same command takes it up again.', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
