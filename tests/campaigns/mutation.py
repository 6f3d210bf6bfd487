"""Change the package in one place at a time and count the changes that the tests notice.

    python tests/campaigns/mutation.py                      # 300 mutants of the core, at random
    python tests/campaigns/mutation.py --quick --minutes 9  # as many of them as fit; then --skip
    python tests/campaigns/mutation.py --only 17 203        # these of the 300 again
    python tests/campaigns/mutation.py --all ops/losses.py  # every mutant of one module

A mutant differs from the package by one comparison, operator, constant, boolean or keyword. It is
killed if a test fails that executes the changed line (the quickest, 20 seconds of them), or that
starts processes and names a part of the module. The first run executes all tests of the core once,
in about 10 minutes, and records their lines in ``.cache/mutation.json``; delete it after a change
of the package or of its tests. The work is done in a temporary copy; the tree itself never changes.
The changes that survive are printed: each is either a missing test or an equivalent program.
"""

import argparse
import functools
import gc
import json
import math
import os
import random
import re
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import Any, NoReturn

from executed import ExecutedLines
from mutants import Mutant, mutants

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = 'mmselfsup_invp'
HOSTS = ('mmselfsup', 'mmpretrain')
TARGETS = ('ops', 'memory', 'models', 'engine')
TESTS = [*(f'tests/{name}' for name in TARGETS), 'tests/test_examples.py']
QUICK = ['-m', 'not slow']
OF_DEFAULTS = ['tests/test_docs.py', 'tests/test_recipes.py', '-k', 'option or constants']
RECORD = ROOT / '.cache/mutation.json'
# Registries of these would change with the order of imports.
NOT_SHARED = {*HOSTS, 'mmcls', '__main__', 'executed', 'mutants'}
# Tests that execute the changed line run until they have taken this time, the quickest first.
MOST_SECONDS = 20
# So many of them run before the files of the others are imported.
FIRST = 8
# What a test file imports to start processes.
STARTING = re.compile(r'^from .*\bprocesses import', re.MULTILINE)
# Exit codes of pytest: all tests passed; no test was found.
PASSED = (0, 5)
CRASHED = 'crashed'
OUTCOMES = ('killed', 'survived', 'unknown')


class Outcomes:
    """Plugin of pytest that writes a line to a pipe for every test: its name if it failed."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe

    def pytest_runtest_logreport(self, report: Any) -> None:
        os.write(self.pipe, f'{report.nodeid if report.failed else ""}\n'.encode())

    pytest_collectreport = pytest_runtest_logreport


def tests_of(
    mutant: Mutant, root: Path, tests: dict[str, dict], processes: bool = True
) -> Iterator[list[str]]:
    """Arguments of pytest: the tests that execute the line, then files that start processes.

    If no test executes the line, as for a constant of a module or a default, it is those of the
    module and those that compare defaults with the documentation and with papers.
    """
    module = str(mutant.path.relative_to(root / PACKAGE))
    lines = {test: found['lines'].get(module, ()) for test, found in tests.items()}
    executing = [test for test in lines if mutant.line in lines[test]]
    chosen = executing or filter(lines.get, lines)
    chosen = sorted(chosen, key=lambda test: tests[test]['seconds'])
    total = accumulate(tests[test]['seconds'] for test in chosen)
    chosen = [test for test, end in zip(chosen, total, strict=True) if end < MOST_SECONDS]
    for part in filter(None, (chosen[:FIRST], chosen[FIRST:])):
        yield [*QUICK, *part]
    if not executing:
        yield OF_DEFAULTS
    if processes and (files := starting_processes(mutant.path, root)):
        yield files


def starting_processes(path: Path, root: Path) -> list[str]:
    """The test files that start processes, whose lines are not recorded, and name a function or
    class of a module or of one that imports it.
    """
    importing = re.compile(rf'\b{path.stem} import\b')
    modules = ((file, file.read_text()) for file in (root / PACKAGE).rglob('*.py'))
    sources = [text for file, text in modules if file == path or importing.search(text)]
    names = set(re.findall(r'^(?:def|class) (\w+)', '\n'.join(sources), re.MULTILINE))
    texts = {file: file.read_text() for file in sorted((root / 'tests').rglob('test_*.py'))}
    starting = [file for file, text in texts.items() if STARTING.search(text)]
    return [str(file) for file in starting if names & {*re.findall(r'\w+', texts[file])}]


def failed_test(args: list[str], seconds: float) -> str | None:
    """Name of the first test that fails; ``CRASHED`` if the process ends or hangs; else None.

    Pytest runs in a forked child, so that the imports of the libraries are shared.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        run_pytest(['-x', *args], Outcomes(writer))
    os.close(writer)
    output = b''
    with os.fdopen(reader, 'rb', buffering=0) as pipe:
        while select.select([pipe], [], [], seconds)[0]:
            part = pipe.read(2**16)
            if not part:
                break
            output += part
        else:
            os.killpg(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    names = output.decode().split('\n')
    return next(filter(None, names), None if code in PASSED else CRASHED)


def run_pytest(args: list[str], plugin: object) -> NoReturn:
    os.setsid()
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    import pytest

    options = ['-q', '-p', 'no:cacheprovider', '-W', 'ignore']
    os._exit(int(pytest.main([*options, *args], plugins=[plugin])))


def record_lines(root: Path) -> None:
    """Run all tests of the core in the copy and record what they execute."""
    partial = RECORD.with_suffix('.part')
    RECORD.parent.mkdir(exist_ok=True)
    child = os.fork()
    if child == 0:
        run_pytest([*QUICK, *TESTS], ExecutedLines(root / PACKAGE, partial))
    os.waitpid(child, 0)
    partial.rename(RECORD)


def share(libraries: list[str]) -> None:
    """Import what the tests import, once for all children."""
    for name in libraries:
        if name.partition('.')[0] not in NOT_SHARED:
            with suppress(Exception):
                import_module(name)
    gc.collect()
    gc.freeze()


@functools.cache
def passes(test: str, seconds: float) -> bool:
    """Whether a test passes without a mutant; one that does not would kill every mutant."""
    return test == CRASHED or failed_test([test], seconds) is None


def outcome(mutant: Mutant, root: Path, tests: dict[str, dict], args: argparse.Namespace) -> str:
    """Try a mutant in the copy of the tree: ``'killed'`` or ``'survived'``.

    ``'unknown'`` if the test that fails also fails without it.
    """
    original, times = mutant.path.read_text(), mutant.path.stat()
    mutant.path.write_text(mutant.source)
    try:
        calls = tests_of(mutant, root, tests, not args.quick)
        failed = next(filter(None, (failed_test(call, args.timeout) for call in calls)), None)
    finally:
        mutant.path.write_text(original)
        os.utime(mutant.path, ns=(times.st_atime_ns, times.st_mtime_ns))
    if failed is None:
        return 'survived'
    if passes(failed, args.timeout):
        return 'killed'
    print(f'This test fails without a mutant: {failed}', flush=True)
    return 'unknown'


def copy_tree(folder: Path) -> Path:
    """Copy what the tests need; compiled libraries come along."""
    skipped = shutil.ignore_patterns('.git', '.venv', '.cache', 'work_dirs', 'data')
    return Path(shutil.copytree(ROOT, folder / 'tree', ignore=skipped, symlinks=True))


def modules_of(root: Path, targets: list[str]) -> list[Path]:
    paths = [root / PACKAGE / target for target in targets]
    missing = [str(path.relative_to(root)) for path in paths if not path.exists()]
    if missing:
        raise SystemExit(f'No such module or package: {", ".join(missing)}')
    files = [[path] if path.is_file() else sorted(path.rglob('*.py')) for path in paths]
    return [path for found in files for path in found]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('targets', nargs='*', default=list(TARGETS), help='below mmselfsup_invp/')
    parser.add_argument('--num', type=int, default=300, help='mutants drawn (default: 300)')
    parser.add_argument('--all', action='store_true', help='try every mutant')
    parser.add_argument('--seed', type=int, default=0, help='seed of the draw (default: 0)')
    parser.add_argument('--skip', type=int, default=0, help='leave out the first mutants drawn')
    parser.add_argument('--only', type=int, nargs='+', help='numbers of the mutants to try')
    parser.add_argument(
        '--quick', action='store_true', help='leave out the files that start processes'
    )
    parser.add_argument('--minutes', type=float, default=math.inf, help='stop after this time')
    parser.add_argument('--timeout', type=float, default=120, help='seconds for each test')
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = copy_tree(Path(folder))
        found = [one for path in modules_of(root, args.targets) for one in mutants(path)]
        random.Random(args.seed).shuffle(found)
        num = len(found) if args.all else min(args.num, len(found))
        numbers = args.only or range(args.skip, num)
        prepare(root)
        return campaign({number: found[number] for number in numbers}, root, args)


def prepare(root: Path) -> None:
    """Import the libraries for all children, which work in the copy of the tree."""
    os.chdir(root)
    sys.path.insert(0, str(root))
    import torch

    torch.set_num_threads(1)
    if not torch.cuda.is_available():
        os.environ['TRITON_INTERPRET'] = '1'  # As in tests/conftest.py; read by the import.
    for name in filter(find_spec, HOSTS):
        import_module(f'{name}.models')
    if not RECORD.exists():
        record_lines(root)
    share(json.loads(RECORD.read_text())['libraries'])
    # The time and size of a module, which validate bytecode, may be those of the mutant before.
    sys.dont_write_bytecode = True
    os.environ['PYTHONDONTWRITEBYTECODE'] = '1'


def campaign(found: dict[int, Mutant], root: Path, args: argparse.Namespace) -> int:
    """Try the mutants; print survivors as they are found, then the counts of each package."""
    tests = json.loads(RECORD.read_text())['tests']
    end = time.monotonic() + 60 * args.minutes
    outcomes: Counter[tuple[str, str]] = Counter()
    for number, mutant in found.items():
        if time.monotonic() > end:
            print(f'Time is up; continue with --skip {number}')
            break
        place = mutant.path.relative_to(root / PACKAGE)
        result = outcome(mutant, root, tests, args)
        outcomes[place.parts[0], result] += 1
        print(f'{number}: {result} {place}:{mutant.line}', flush=True)
        if result == 'survived':
            print(f'  - {mutant.before}\n  + ... {mutant.after} ...', flush=True)
    for package in sorted({package for package, _ in outcomes}):
        killed, survived, unknown = (outcomes[package, each] for each in OUTCOMES)
        print(f'{package}: {killed} killed, {survived} survived, {unknown} unknown')
    return 0


if __name__ == '__main__':
    sys.exit(main())
