"""Compare what methods learn on a slice of CIFAR-10 at an equal budget of network passes.

Example:
    python tools/convert_dataset.py cifar10 data/cifar10
    python benchmarks/learning.py prepare --cifar10 data/cifar10 --data data/arena
    python benchmarks/learning.py run --data data/arena --work-dir work_dirs/arena
    python benchmarks/learning.py report

``run`` trains all cells of ``benchmarks/arena/grid.json`` that have no result yet, in order, and
appends each result to ``benchmarks/arena/trials.jsonl``. When it is interrupted, the same command
continues from the last checkpoint of the cell. Several processes may run it at the same time.
Everything is chosen on the validation images; ``test`` measures rows of the final table on the
test images.
"""

import argparse
import json
import multiprocessing
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

ARENA = ROOT / 'benchmarks' / 'arena'


def main() -> None:
    args = parse()
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    args.command(args)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)

    prepare = commands.add_parser('prepare', help='write the splits')
    prepare.add_argument('--cifar10', type=Path, required=True)
    prepare.add_argument('--data', type=Path, required=True)
    prepare.set_defaults(command=run_prepare)

    run = commands.add_parser('run', help='train the cells that have no result yet')
    run.add_argument('--data', type=Path, required=True)
    run.add_argument('--work-dir', type=Path, required=True)
    run.add_argument('--results', type=Path, default=ARENA / 'trials.jsonl')
    run.add_argument('--names', nargs='*', help='rows of the grid; all if not given')
    run.add_argument('--grid', type=Path, default=ARENA / 'grid.json')
    run.set_defaults(command=run_grid)

    test = commands.add_parser('test', help='measure finished cells on the test images, once')
    test.add_argument('--data', type=Path, required=True)
    test.add_argument('--work-dir', type=Path, required=True)
    test.add_argument('--grid', type=Path, default=ARENA / 'grid.json')
    test.add_argument('--names', nargs='+', required=True, help='rows of the final table')
    test.add_argument('--trials', type=Path, default=ARENA / 'trials.jsonl', help='results of run')
    test.add_argument('--results', type=Path, default=ARENA / 'test.jsonl')
    test.set_defaults(command=run_test)

    report = commands.add_parser('report', help='write the tables and the curves')
    report.add_argument('--results', type=Path, default=ARENA / 'trials.jsonl')
    report.add_argument('--test-results', type=Path, default=ARENA / 'test.jsonl')
    report.add_argument(
        '--grid', type=Path, default=ARENA / 'grid.json', help='says what to compare'
    )
    report.add_argument('--curves', type=Path, default=ARENA / 'curves.png')
    report.add_argument(
        '--pages', type=Path, default=ARENA / 'pages.json', help='says which rows to show where'
    )
    report.add_argument('--root', type=Path, default=ROOT, help='folder of these pages')
    report.set_defaults(command=run_report)
    return parser.parse_args()


def run_prepare(args: argparse.Namespace) -> None:
    from benchmarks.arena.images import prepare

    prepare(args.cifar10, args.data)


def run_grid(args: argparse.Namespace) -> None:
    from benchmarks.arena.cells import finished, run_cell
    from benchmarks.arena.grid import read_grid

    spawn = multiprocessing.get_context('spawn')
    done = set()
    while True:
        # Read again each time: rows may be added while it runs.
        cells = [cell for cell in read_grid(args.grid, args.names) if cell.key not in done]
        cells = [cell for cell in cells if cell.key not in finished(args.results)]
        if not cells:
            return
        cell = cells[0]
        done.add(cell.key)
        work = (cell, args.data, args.work_dir, args.results)
        process = spawn.Process(target=run_cell, args=work)
        process.start()
        process.join()
        if process.exitcode:
            print(f'{cell.key} failed; its log is in {args.work_dir / cell.key}', flush=True)


def run_test(args: argparse.Namespace) -> None:
    from benchmarks.arena.cells import append, finished, measure_cell, read_results
    from benchmarks.arena.grid import read_grid

    trials = {trial['key']: trial for trial in read_results(args.trials)}
    for cell in read_grid(args.grid, args.names):
        if cell.key in trials and cell.key not in finished(args.results):
            figures = measure_cell(cell, args.data, args.work_dir, 'test')
            append(args.results, dict(trials[cell.key], figures=figures))


def run_report(args: argparse.Namespace) -> None:
    from benchmarks.arena.cells import read_results
    from benchmarks.arena.grid import read_pairs
    from benchmarks.arena.pages import write_pages
    from benchmarks.arena.report import differences, draw_curves, table

    pairs = read_pairs(args.grid)
    trials, tested = read_results(args.results), read_results(args.test_results)
    for path, lines in ((args.results, trials), (args.test_results, tested)):
        path.with_suffix('.md').write_text(table(lines) + '\n' + differences(lines, pairs))
    pages = json.loads(args.pages.read_text())
    drawn = {name: pages['labels'][name] for name in pages['curves']['trials']}
    draw_curves(trials, drawn, pages['curves']['budget'], args.curves)
    write_pages(tested, pairs, pages['labels'], pages['tables'], args.root)


if __name__ == '__main__':
    main()
