"""Change the package in one place at a time and count the changes that the tests notice.

    python tests/campaigns/mutation.py                      # 300 mutants of the core, at random
    python tests/campaigns/mutation.py --all ops/losses.py  # every mutant of one module

A mutant differs from the package by one comparison, operator, constant, boolean or keyword. It is
killed if one of its tests fails: the examples of the module, and the test files of its package that
name the module or one of its functions or classes. The work is done in a temporary copy; the tree
itself never changes. Survivors are printed: each is either a missing test or an equivalent program.
"""

import argparse
import ast
import copy
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = 'mmselfsup_invp'
TARGETS = ('ops', 'memory', 'models', 'engine')
# Exit codes of pytest: some tests failed; no test was found.
FAILED, NO_TESTS = 1, 5

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
    after it, and the others that name its parts.
    """
    folder = root / 'tests' / path.relative_to(root / PACKAGE).parts[0]
    source = path.read_text()
    parts = re.findall(r'^(?:def|class) (\w+)', source, re.MULTILINE)
    mentions = re.compile(rf'\b({"|".join([path.stem, *parts])})\b')
    files = [
        file for file in sorted(folder.rglob('test_*.py')) if mentions.search(file.read_text())
    ]
    own = [str(file) for file in files if path.stem in file.stem]
    others = [str(file) for file in files if path.stem not in file.stem]
    doctest = ['--doctest-modules', str(path)] if '>>>' in source else []
    return [args for args in (doctest, own, others) if args] or [[str(folder)]]


def run_pytest(args: list[str], seconds: float) -> int:
    """Exit code of pytest in a forked child, so that the imports of the libraries are shared."""
    child = os.fork()
    if child == 0:
        os.setsid()
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        import pytest

        options = ['-q', '-x', '-p', 'no:cacheprovider', '-W', 'ignore', '-m', 'not slow']
        os._exit(int(pytest.main([*options, *args])))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return FAILED  # An endless loop is noticed too.


def is_killed(mutant: Mutant, root: Path, seconds: float) -> bool:
    """Whether a test fails with the mutant in the copy of the tree."""
    original = mutant.path.read_text()
    mutant.path.write_text(mutant.source)
    try:
        codes = (run_pytest(args, seconds) for args in tests_of(mutant.path, root))
        return any(code not in (0, NO_TESTS) for code in codes)
    finally:
        mutant.path.write_text(original)


def check_baseline(paths: set[Path], root: Path, seconds: float) -> None:
    """Raise unless the tests pass without a mutant; otherwise every mutant would look killed."""
    calls = {tuple(args) for path in paths for args in tests_of(path, root)}
    for args in sorted(calls):
        if run_pytest(list(args), seconds) not in (0, NO_TESTS):
            raise SystemExit(f'The tests fail without a mutant: pytest {" ".join(args)}')


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('targets', nargs='*', default=list(TARGETS), help='below mmselfsup_invp/')
    parser.add_argument('--num', type=int, default=300, help='mutants drawn (default: 300)')
    parser.add_argument('--all', action='store_true', help='try every mutant')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--timeout', type=float, default=600, help='seconds for each call of pytest'
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = copy_tree(Path(folder))
        found = [one for path in modules_of(root, args.targets) for one in mutants(path)]
        if not args.all:
            found = random.Random(args.seed).sample(found, min(args.num, len(found)))
        return campaign(found, root, args.timeout)


def campaign(found: list[Mutant], root: Path, seconds: float) -> int:
    """Try the mutants, print survivors as they are found, then the score."""
    os.chdir(root)
    sys.path.insert(0, str(root))
    import mmengine.runner  # noqa: F401  (imported once for all children)
    import torch

    torch.set_num_threads(1)
    check_baseline({mutant.path for mutant in found}, root, seconds)
    survivors = 0
    for number, mutant in enumerate(found, start=1):
        if not is_killed(mutant, root, seconds):
            survivors += 1
            place = f'{mutant.path.relative_to(root)}:{mutant.line}'
            print(f'survived {place}\n  - {mutant.before}\n  + ... {mutant.after} ...', flush=True)
        if number % 20 == 0:
            print(f'{number} of {len(found)}, {survivors} survived', flush=True)
    killed = len(found) - survivors
    print(f'{killed} of {len(found)} mutants killed ({killed / max(len(found), 1):.1%})')
    return 0


if __name__ == '__main__':
    sys.exit(main())
