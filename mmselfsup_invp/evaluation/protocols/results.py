"""Results on disk: one JSON file for each benchmark, one table of them all."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .job import Job, Outcome

COLUMNS = ('benchmark', 'network', 'metric', 'last', 'best', 'epochs', 'seed', 'published')


def write_outcome(path: str | Path, job: Job, outcome: Outcome) -> dict[str, Any]:
    """Write what was measured, in one step.

    Args:
        path (str | Path): The JSON file.
        job (Job): What was done.
        outcome (Outcome): What came of it.

    Returns:
        dict: What the file holds.
    """
    name = 'random initialisation' if job.random_init else job.backbone.path.name
    entry = dict(
        protocol=job.benchmark.name,
        title=job.benchmark.title,
        checkpoint=name,
        experiment=job.backbone.experiment,
        pretraining_epochs=0 if job.random_init else job.backbone.epoch,
        metric=job.benchmark.metric,
        value=outcome.last,
        seed=job.seed,
        published=[dict(method=key, value=row) for key, row in job.benchmark.published.items()],
        **asdict(outcome),
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix('.unfinished')
    unfinished.write_text(json.dumps(entry, indent=1) + '\n')
    os.replace(unfinished, path)
    return entry


def results_table(folder: str | Path) -> str:
    """All results in a folder as a table in Markdown.

    Args:
        folder (str | Path): With the files of :func:`write_outcome`.
    """
    entries = [json.loads(path.read_text()) for path in sorted(Path(folder).glob('*.json'))]
    rows = [COLUMNS, ('---',) * len(COLUMNS), *map(_row, entries)]
    return ''.join(f'| {" | ".join(row)} |\n' for row in rows)


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    published = '; '.join(f'{row["method"]}: {row["value"]:g}' for row in entry['published'])
    return (
        entry['protocol'],
        entry['checkpoint'],
        entry['metric'],
        f'{entry["last"]:.2f}',
        '-' if entry['best'] is None else f'{entry["best"]:.2f}',
        str(entry['epochs']),
        str(entry['seed']),
        published or '-',
    )
