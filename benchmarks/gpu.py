"""Run the tests and benchmarks that need a GPU and compare the results with the goals.

Example:
    python benchmarks/gpu.py --out gpu_results
    python benchmarks/gpu.py --out gpu_results --parts search graph --seconds 560

``gpu_parts.py`` has the commands, their time limits and the goals. The folder gets the output of
each part as text, ``results.json``, and ``table.md``: the goals beside the measured values, and
the result of each part. A later call with the same folder leaves out the parts that succeeded, so
that the parts can be run one after the other. ``--small`` runs all of them with tiny sizes on the
CPU, which tests this script and measures nothing.
"""

import argparse
import datetime
import json
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from gpu_parts import GOALS, PARTS, Goal  # noqa: E402

DONE, SANITIZER = 'done', 'compute-sanitizer'
# By part: command, state, seconds, machine, the last line of the output, and the record, which is
# what a benchmark writes with --json.
Results = dict[str, dict]


def run_parts(names: list[str], args: argparse.Namespace) -> Results:
    """Run the parts that have not succeeded before, and save after each."""
    path = args.out / 'results.json'
    results: Results = json.loads(path.read_text()) if path.exists() else {}
    end = time.monotonic() + args.seconds if args.seconds else float('inf')
    for name in names:
        command = PARTS[name].command + (PARTS[name].small if args.small else '')
        before = results.get(name, {})
        if before.get('state') == DONE and before['command'] == command:
            print(f'{name}: done before', flush=True)
            continue
        limit = min(PARTS[name].seconds, end - time.monotonic())
        if limit <= 0:
            print(f'{name}: no time left', flush=True)
            continue
        print(f'{name}: {command}', flush=True)
        results[name] = run_part(name, command, limit, args)
        print(f'{name}: {results[name]["state"]}', flush=True)
        write(path, json.dumps(results, indent=1))
        write(args.out / 'table.md', report(results))
    return results


def run_part(name: str, command: str, limit: float, args: argparse.Namespace) -> dict:
    """Run a command and return its result."""
    log, record = args.out / f'{name}.txt', args.out / f'{name}.json'
    record.unlink(missing_ok=True)
    words = [sys.executable if word == 'python' else word for word in shlex.split(command)]
    if 'benchmarks/' in command:
        words += ['--json', str(record)]
    start = time.monotonic()
    state = execute(words, log, limit, args.small)
    lines = [line for line in log.read_text(errors='replace').splitlines() if line.strip()]
    return dict(
        command=command,
        state=state,
        seconds=round(time.monotonic() - start),
        machine=machine(),
        last_line=lines[-1].strip() if lines else '',
        record=json.loads(record.read_text()) if record.exists() else None,
    )


def execute(words: list[str], log: Path, limit: float, small: bool) -> str:
    """Run a command in the root of the repository; return what became of it."""
    if SANITIZER in words and shutil.which(SANITIZER) is None:
        log.write_text('')
        return f'{SANITIZER} is not on PATH'
    # Without a GPU the kernels are interpreted.
    environment = {**os.environ, **({'TRITON_INTERPRET': '1'} if small else {})}
    with log.open('w') as file:
        process = subprocess.Popen(
            words, cwd=ROOT.parent, env=environment, stdout=file, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            return f'timed out after {limit:.0f} s'
        finally:
            if process.poll() is None:  # With its own processes, such as the workers of a loader.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return f'failed with exit status {status}' if status else DONE


def machine() -> str:
    """Name and driver of the GPU, and the versions that matter."""
    names = [platform.processor() or platform.machine()]
    if shutil.which('nvidia-smi'):
        query = ['nvidia-smi', '--query-gpu=name,driver_version', '--format=csv,noheader']
        found = subprocess.run(query, capture_output=True, text=True).stdout.splitlines()
        names = [
            f'{name}, driver {driver}' for name, driver in (line.split(', ') for line in found)
        ]
    versions = [f'Python {platform.python_version()}']
    for package in ('torch', 'triton'):
        try:
            versions.append(f'{package} {metadata.version(package)}')
        except metadata.PackageNotFoundError:
            versions.append(f'no {package}')
    return ', '.join([f'{datetime.date.today()}', *dict.fromkeys(names), *versions])


def report(results: Results) -> str:
    """Both tables, with what they were measured on."""
    machines = dict.fromkeys(result['machine'] for result in results.values())
    lines = [f'Measured on {name}.' for name in machines]
    commands = {name: part.command for name, part in PARTS.items()}
    other = [name for name, found in results.items() if found['command'] != commands.get(name)]
    if other:
        lines.append(f'With other sizes than those of the goals: {", ".join(other)}.')
    return '\n'.join([*lines, '', *goal_table(results), '', *part_table(results), ''])


def goal_table(results: Results) -> list[str]:
    """The goals beside what was measured, as lines of Markdown."""
    rows = [
        (
            goal.work, goal.reference, f'{goal.sign} {goal.bound:g} {goal.unit}',
            *measured(goal, results), ', '.join(goal.parts()),
        )
        for goal in GOALS
    ]  # fmt: skip
    return markdown(('work', 'compared with', 'goal', 'measured', 'met', 'parts'), rows)


def measured(goal: Goal, results: Results) -> tuple[str, str]:
    """The value, or why there is none, and whether it meets the goal."""
    parts = [results.get(name) for name in goal.parts()]
    value = goal.measured({name: result['record'] for name, result in results.items()})
    if value is not None:
        return f'{value:.4g} {goal.unit}', 'yes' if goal.met(value) else 'no'
    states = [result['state'] for result in parts if result and result['state'] != DONE]
    return states[0] if states else 'not measured', ''


def part_table(results: Results) -> list[str]:
    """What became of each part and its command, as lines of Markdown."""
    rows = [
        (name, outcome(result), f'{result["seconds"]} s', f'`{result["command"]}`')
        for name, result in results.items()
    ]
    return markdown(('part', 'result', 'took', 'command'), rows)


def outcome(result: dict) -> str:
    """The fastest formulation of a benchmark beside its reference, or the end of the output."""
    if result['state'] != DONE:
        return f'{result["state"]}: {result["last_line"]}'.rstrip(': ')
    seconds = (result['record'] or {}).get('seconds')
    if not seconds:
        return result['last_line']
    fastest, *_, reference = seconds
    return f'{fastest}: {seconds[reference] / seconds[fastest]:.2f} x as fast as {reference}'


def markdown(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """The lines of a table."""
    lines = [header, ('---',) * len(header), *rows]
    return ['| ' + ' | '.join(cell.replace('|', '/') for cell in line) + ' |' for line in lines]


def write(path: Path, text: str) -> None:
    """Replace a file by a complete one, since the machine may stop at any time."""
    part = path.with_suffix('.part')
    part.write_text(text)
    part.replace(path)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, default=Path('gpu_results'), help='folder of results')
    parser.add_argument(
        '--parts', nargs='+', choices=PARTS, default=list(PARTS), metavar='PART',
        help=f'what to run, default all: {", ".join(PARTS)}',
    )  # fmt: skip
    parser.add_argument('--seconds', type=float, help='end after this time; run again to go on')
    parser.add_argument('--small', action='store_true', help='tiny sizes on the CPU, as a test')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    args.out = args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    results = run_parts(args.parts, args)
    print('\n'.join(goal_table(results)))
    failed = [name for name in args.parts if results.get(name, {}).get('state') != DONE]
    if failed:
        raise SystemExit(f'Not done: {", ".join(failed)}. The output is in {args.out}.')


if __name__ == '__main__':
    main()
