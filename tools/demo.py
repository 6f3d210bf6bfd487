"""Pre-train InvP on handwritten digits and compare it with its twin; `make demo` runs this.

Nothing is downloaded. InvP and the same config without propagation (lambda_inv = 0) are trained at
the same time, each on one thread, with the same seed and epochs, and compared with the network
before training. All measures are of the features of the backbone; labels are used for measuring
only.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from statistics import mean, stdev

from command_line import create_parser, require_packages

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / 'configs/invp/invp_resnet18-slim_1xb32-coslr-50e_digits.py'
UNTRAINED, TWIN, INVP = 'random weights', 'instance loss only', 'InvP'
# lambda_inv by the name of the row.
RUNS = {TWIN: 0.0, INVP: 0.6}
KNN, TEMPERATURE, DEGREE, HOPS = 20, 0.07, 4, 3
COLOURS = '0.65', 'tab:orange', 'tab:blue'


def main():
    parser = create_parser(__doc__)
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=ROOT / 'work_dirs/demo',
        help='folder of the runs; those of an earlier demo are deleted (default: %(default)s)',
    )
    parser.add_argument(
        '--seeds', type=int, nargs='+', default=[0], help='one pair of runs each (default: 0)'
    )
    args = parser.parse_args()

    require_packages(args)
    # Imported late, so that --help is answered at once.
    from mmselfsup_invp.datasets.converters import convert_digits

    convert_digits(ROOT / 'data/digits')
    work_dir = args.work_dir.resolve()
    train(work_dir, args.seeds)
    measures = measure_all(work_dir, args.seeds)
    draw(measures, work_dir / 'demo.png')
    show(measures, work_dir, args.seeds)


def run_folder(work_dir, name, seed):
    """Work folder of a run."""
    return work_dir / f'lambda_{RUNS[name]:g}_seed_{seed}'


def train(work_dir, seeds):
    """Train every run in a process with one thread, as many at a time as there are cores."""
    from concurrent.futures import ThreadPoolExecutor

    from mmengine.config import Config
    from rich.progress import Progress

    epochs = Config.fromfile(CONFIG).train_cfg.max_epochs
    with Progress() as progress, ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = []
        for seed in seeds:
            for name in RUNS:
                task = progress.add_task(f'{name}, seed {seed}', total=epochs)
                follow = partial(progress.update, task)
                jobs.append(pool.submit(train_one, work_dir, name, seed, epochs, follow))
        for job in jobs:
            job.result()


def train_one(work_dir, name, seed, epochs, follow):
    """Train one run; `follow` gets the number of epochs done as ``completed``."""
    folder = run_folder(work_dir, name, seed)
    # The work folder may contain other files, so only the runs are deleted.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    options = {
        'model.head.lambda_inv': RUNS[name],
        'randomness.seed': seed,
        'default_hooks.knn.interval': epochs,
    }
    command = [sys.executable, 'tools/train.py', str(CONFIG.relative_to(ROOT))]
    command += ['--work-dir', str(folder), '--cfg-options']
    command += [f'{key}={value}' for key, value in options.items()]
    log = folder / 'console.log'
    with open(log, 'w') as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=one_thread(), stdout=output, stderr=subprocess.STDOUT
        )
        while process.poll() is None:
            time.sleep(1)
            follow(completed=epochs_done(folder))
    follow(completed=epochs)
    if process.returncode:
        raise SystemExit(
            f'{shlex.join(command)} ended with exit code {process.returncode}. The end of {log}:\n'
            + log.read_text()[-1500:]
        )


def one_thread():
    """The environment with one thread for each numerical library."""
    return os.environ | dict.fromkeys(('OMP_NUM_THREADS', 'MKL_NUM_THREADS'), '1')


def epochs_done(folder):
    """Epochs that the log of a run has reached."""
    lines = [log.read_text().splitlines() for log in folder.glob('*/vis_data/scalars.json')]
    entries = [json.loads(line) for line in sum(lines, [])[:-1]]  # The last may be incomplete.
    return max((entry['epoch'] - 1 for entry in entries if 'epoch' in entry), default=0)


def measure_all(work_dir, seeds):
    """Measures in percent, a list over the seeds, by name of the row and of the measure."""
    import torch

    from mmselfsup_invp.evaluation import read_run
    from mmselfsup_invp.visualization import ReportOptions
    from mmselfsup_invp.visualization.run_data import RunData

    measures = {}
    for seed in seeds:
        runs = {
            name: RunData(read_run(run_folder(work_dir, name, seed)), ReportOptions())
            for name in RUNS
        }
        untrained = RunData(runs[INVP].run, ReportOptions())
        torch.manual_seed(seed)
        for module in untrained.model.backbone.modules():
            if hasattr(module, 'reset_parameters'):
                module.reset_parameters()
        for row, data in {UNTRAINED: untrained, **runs}.items():
            for name, value in measure(data).items():
                measures.setdefault(row, {}).setdefault(name, []).append(value)
    return measures


def measure(data):
    """kNN accuracy, accuracy with few labels, agreement of clusters and purity of a network."""
    import torch
    from sklearn.cluster import KMeans

    from mmselfsup_invp import evaluation
    from mmselfsup_invp.ops import knn_graph

    gallery, label = data.backbone, data.gallery.label
    query = data.query_backbone, data.queries.label
    clusters = KMeans(int(label.max()) + 1, n_init=10, random_state=0).fit_predict(gallery.numpy())
    agreement = evaluation.cluster_agreement(torch.from_numpy(clusters).long(), label)
    purity = evaluation.neighbour_purity(
        knn_graph(gallery, DEGREE), label, HOPS, torch.arange(len(gallery))
    )
    return {
        'kNN': evaluation.knn_accuracy(*query, gallery, label, KNN, TEMPERATURE),
        '1 label a class': evaluation.few_shot_accuracy(*query, gallery, label, 1),
        '5 labels a class': evaluation.few_shot_accuracy(*query, gallery, label, 5),
        'clusters, NMI': agreement['nmi'],
        'purity, 1 hop': purity['purity_hop1'],
        f'purity, {HOPS} hops': purity[f'purity_hop{HOPS}'],
    }


def draw(measures, path):
    """Draw the mean of every measure as a dot, and the values of the seeds as ticks."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout='constrained')
    axes = figure.subplots()
    names = list(measures[INVP])[::-1]
    for (row, values), colour in zip(measures.items(), COLOURS, strict=True):
        for place, name in enumerate(names):
            axes.plot(values[name], [place] * len(values[name]), '|', color=colour)
        means = [mean(values[name]) for name in names]
        axes.plot(means, names, 'o', color=colour, label=row, markersize=8)
    gain = [[mean(measures[row][name]) for name in names] for row in RUNS]
    axes.hlines(names, *gain, color=COLOURS[-1], linewidth=1)
    axes.set_xlabel('percent')
    axes.grid(axis='x', alpha=0.3)
    axes.set_title('Features of the backbone, handwritten digits')
    axes.legend(loc='lower left')
    figure.savefig(path, dpi=120)


def show(measures, work_dir, seeds):
    """Print the table and the paths of the results."""
    from rich.console import Console
    from rich.table import Table

    of_seeds = f'; mean and standard error of {len(seeds)} seeds' if len(seeds) > 1 else ''
    table = Table(title=f'Handwritten digits, features of the backbone, %{of_seeds}')
    table.add_column()
    for row in measures:
        table.add_column(row, justify='right', no_wrap=True)
    for name in measures[INVP]:
        table.add_row(name, *(mean_and_error(values[name]) for values in measures.values()))
    console = Console()
    console.print(table)
    folder = run_folder(work_dir, INVP, seeds[0])
    console.print(f'picture     {work_dir / "demo.png"}', soft_wrap=True)
    console.print(f'checkpoint  {(folder / "last_checkpoint").read_text()}', soft_wrap=True)
    command = shlex.join([relative(sys.executable), 'tools/report.py', relative(folder)])
    console.print(f'next        {command}', soft_wrap=True)


def mean_and_error(values):
    """Mean and standard error of the mean, which one value does not have."""
    error = f' ± {stdev(values) / len(values) ** 0.5:.1f}' if len(values) > 1 else ''
    return f'{mean(values):.1f}{error}'


def relative(path):
    """A path relative to the root of the repository, where it lies in it."""
    path = Path(path)
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


if __name__ == '__main__':
    main()
