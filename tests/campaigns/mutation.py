"""Change the package in one place at a time and count the changes that the tests notice.

    python tests/campaigns/mutation.py                      # 300 mutants of the core, at random
    python tests/campaigns/mutation.py --minutes 9          # as many of them as fit; then --skip
    python tests/campaigns/mutation.py --all ops/losses.py  # every mutant of one module

A mutant differs from the package by one comparison, operator, constant, boolean or keyword. It is
killed if one of its tests fails: the examples of the module, and the test files of its package that
name the module, one of its functions or classes, or those of a module that imports it. The work is
done in a temporary copy; the tree itself never changes. Survivors are printed: each is either a
missing test or an equivalent program.
"""

import argparse
import ast
import copy
import functools
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
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = 'mmselfsup_invp'
HOSTS = ('mmselfsup', 'mmpretrain')
TARGETS = ('ops', 'memory', 'models', 'engine')
# Exit codes of pytest: all tests passed; no test was found.
PASSED = (0, 5)
CRASHED = 'crashed'
OUTCOMES = ('killed', 'survived', 'unknown')

COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


class Mutant(NamedTuple):
    """One changed place: the module, the line, the text before and after, and the new source."""

    path: Path
    line: int
    before: str
    after: str
    source: str


def changed(node: ast.AST) -> Iterator[ast.AST]:
    """The replacements of one node of the syntax tree."""
    new = copy.deepcopy(node)
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        new.ops[0] = COMPARISONS[type(node.ops[0])]()
        yield new
    elif isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in OPERATORS:
        new.op = OPERATORS[type(node.op)]()
        yield new
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
        yield new.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        new.value = not node.value
        yield new
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        new.value = node.value + 1 if isinstance(node.value, int) else node.value * 1.5 + 0.1
        yield new
    elif isinstance(node, ast.IfExp):
        new.body, new.orelse = node.orelse, node.body
        yield new


def places(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Every node below, its parent and its place there; type hints and messages are left out."""
    for field, value in ast.iter_fields(tree):
        if field in ('annotation', 'returns') or isinstance(tree, ast.JoinedStr | ast.Raise):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST):
                yield tree, field, index, child
                yield from places(child)


def mutants(path: Path) -> Iterator[Mutant]:
    """All mutants of a module."""
    source = path.read_text()
    tree = ast.parse(source)
    lines = source.splitlines()
    for parent, field, index, node in list(places(tree)):
        for new in changed(node):
            ast.copy_location(new, node)
            replace(parent, field, index, new)
            text = ast.unparse(tree)
            replace(parent, field, index, node)
            line = getattr(node, 'lineno', 1)
            yield Mutant(path, line, lines[line - 1].strip(), ast.unparse(new), text)


def replace(parent: ast.AST, field: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node


def tests_of(path: Path, root: Path) -> list[list[str]]:
    """Arguments of pytest, the quickest first: the examples of the module, the test files named
    after it, those that name its parts, and those that name parts of the modules that import it.
    """
    package = path.relative_to(root / PACKAGE).parts[0]
    importing = re.compile(rf'\b{path.stem} import\b')
    modules = (root / PACKAGE / package).rglob('*.py')
    importers = [one for one in modules if importing.search(one.read_text())]
    left = sorted((root / 'tests' / package).rglob('test_*.py'))
    own = [file for file in left if path.stem in file.stem]
    calls = [['--doctest-modules', str(path)]] if '>>>' in path.read_text() else []
    for files in (own, naming([path], left), naming(importers, left)):
        files = [file for file in files if file in left]
        left = [file for file in left if file not in files]
        calls += [list(map(str, files))] if files else []
    return calls


def naming(modules: list[Path], files: list[Path]) -> list[Path]:
    """The test files that name one of these modules or one of its functions or classes."""
    names = {module.stem for module in modules} - {'__init__'}
    for module in modules:
        names |= set(re.findall(r'^(?:def|class) (\w+)', module.read_text(), re.MULTILINE))
    mentions = re.compile(rf'\b({"|".join(names)})\b')
    return [file for file in files if names and mentions.search(file.read_text())]


class Outcomes:
    """Plugin of pytest that writes a line to a pipe for every test: its name if it failed."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe

    def pytest_runtest_logreport(self, report: Any) -> None:
        os.write(self.pipe, f'{report.nodeid if report.failed else ""}\n'.encode())

    pytest_collectreport = pytest_runtest_logreport


def failed_test(args: list[str], seconds: float) -> str | None:
    """Name of the first test that fails; ``CRASHED`` if the process ends or hangs; else None.

    Pytest runs in a forked child, so that the imports of the libraries are shared.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        run_pytest(args, writer)
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


def run_pytest(args: list[str], pipe: int) -> NoReturn:
    os.setsid()
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    import pytest

    options = ['-q', '-x', '-p', 'no:cacheprovider', '-W', 'ignore', '-m', 'not slow']
    os._exit(int(pytest.main([*options, *args], plugins=[Outcomes(pipe)])))


@functools.cache
def passes(test: str, seconds: float) -> bool:
    """Whether a test passes without a mutant; one that does not would kill every mutant."""
    return test == CRASHED or failed_test(['--doctest-modules', test], seconds) is None


def outcome(mutant: Mutant, root: Path, seconds: float) -> str:
    """Try a mutant in the copy of the tree: ``'killed'`` or ``'survived'``.

    ``'unknown'`` if the test that fails also fails without it.
    """
    original = mutant.path.read_text()
    mutant.path.write_text(mutant.source)
    try:
        calls = (failed_test(args, seconds) for args in tests_of(mutant.path, root))
        failed = next(filter(None, calls), None)
    finally:
        mutant.path.write_text(original)
    if failed is None:
        return 'survived'
    if passes(failed, seconds):
        return 'killed'
    print(f'This test fails without a mutant: {failed}', flush=True)
    return 'unknown'


def copy_tree(folder: Path) -> Path:
    """Copy what the tests need; compiled libraries come along."""
    skipped = shutil.ignore_patterns('.git', '.venv', '.cache', 'work_dirs', 'data', '__pycache__')
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
        return campaign(found[args.skip : num], root, args)


def campaign(found: list[Mutant], root: Path, args: argparse.Namespace) -> int:
    """Try the mutants; print survivors as they are found, then the counts of each package."""
    os.chdir(root)
    sys.path.insert(0, str(root))
    import torch

    torch.set_num_threads(1)
    for name in filter(find_spec, HOSTS):
        import_module(f'{name}.models')  # Once for all children.
    end = time.monotonic() + 60 * args.minutes
    outcomes: Counter[tuple[str, str]] = Counter()
    for mutant in found:
        if time.monotonic() > end:
            print(f'Time is up; continue with --skip {args.skip + outcomes.total()}')
            break
        place = mutant.path.relative_to(root / PACKAGE)
        result = outcome(mutant, root, args.timeout)
        outcomes[place.parts[0], result] += 1
        if result == 'survived':
            change = f'  - {mutant.before}\n  + ... {mutant.after} ...'
            print(f'survived {place}:{mutant.line}\n{change}', flush=True)
    for package in sorted({package for package, _ in outcomes}):
        killed, survived, unknown = (outcomes[package, each] for each in OUTCOMES)
        print(f'{package}: {killed} killed, {survived} survived, {unknown} unknown')
    return 0


if __name__ == '__main__':
    sys.exit(main())
