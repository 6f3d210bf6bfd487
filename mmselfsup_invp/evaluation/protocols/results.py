"""Results on disk: one JSON file for each benchmark, one table of them all."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...datasets.files import write_whole
from .job import Job, Outcome

COLUMNS = ('benchmark', 'network', 'metric', 'last', 'best', 'epochs', 'seed', 'published')
KEYS = ('protocol', 'checkpoint', 'metric', 'last', 'best', 'epochs', 'seed')
REQUIRED = ('protocol', 'metric', 'value')


def write_outcome(
    path: str | Path, job: Job, outcome: Outcome, provenance: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Write what was measured, in one step.

    Args:
        path (str | Path): The JSON file.
        job (Job): What was done.
        outcome (Outcome): What came of it.
        provenance (dict, optional): What :func:`~.provenance` gave. With ``changes`` in it the
            published rows are left out: the recipe is not theirs. Defaults to None.

    Returns:
        dict: What the file holds.
    """
    name = 'random initialisation' if job.random_init else job.backbone.path.name
    published = {} if (provenance or {}).get('changes') else job.benchmark.published
    entry = dict(
        protocol=job.benchmark.name,
        title=job.benchmark.title,
        checkpoint=name,
        experiment=job.backbone.experiment,
        pretraining_epochs=0 if job.random_init else job.backbone.epoch,
        metric=job.benchmark.metric,
        value=outcome.last,
        seed=job.seed,
        published=[dict(method=key, value=row) for key, row in published.items()],
        provenance=provenance,
        **asdict(outcome),
    )
    write_whole(Path(path), json.dumps(entry, indent=1, default=str) + '\n')
    return entry


def read_results(file: Path) -> tuple[list[dict[str, Any]], str]:
    """Read the results of a file, a dict or a list of them.

    Args:
        file (Path): JSON file.

    Returns:
        tuple[list[dict], str]: Results with ``protocol``, ``metric`` and ``value``, and a sentence
        about what is not one; empty where all are.
    """
    try:
        content = json.loads(file.read_text())
    except ValueError as error:
        return [], f'{file.name} is no JSON file: {error}.'
    entries = content if isinstance(content, list) else [content]
    whole = [entry for entry in entries if isinstance(entry, dict) and {*REQUIRED} <= {*entry}]
    left_out = len(entries) - len(whole)
    fault = f'{file.name}: {left_out} entries without {", ".join(REQUIRED)} are left out.'
    return whole, fault if left_out else ''


def read_folder(folder: str | Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Read all results in a folder, and a sentence about each file that holds something else.

    Where files of one name were different checkpoints, as after training anew, the name has their
    fingerprint behind it.

    Args:
        folder (str | Path): With the files of :func:`write_outcome`, or of others.
    """
    found = [read_results(file) for file in sorted(Path(folder).glob('*.json'))]
    entries = [entry for each, _ in found for entry in each]
    prints: dict[str, set[str]] = {}
    for entry in entries:
        prints.setdefault(str(entry.get('checkpoint')), set()).add(_fingerprint(entry))
    for entry in entries:
        if len(prints[str(entry.get('checkpoint'))]) > 1:
            entry['checkpoint'] = f'{entry["checkpoint"]} ({_fingerprint(entry)[:6]})'
    return entries, [why for _, why in found if why]


def _fingerprint(entry: dict[str, Any]) -> str:
    return (entry.get('provenance') or {}).get('checkpoint', 'unknown')


def results_table(folder: str | Path) -> str:
    """All results in a folder as a table in Markdown.

    Args:
        folder (str | Path): With the files of :func:`write_outcome`.
    """
    entries, faults = read_folder(folder)
    rows = [COLUMNS, ('---',) * len(COLUMNS), *map(_row, entries)]
    return ''.join(
        [*(f'| {" | ".join(row)} |\n' for row in rows), *(f'\n{fault}\n' for fault in faults)]
    )


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    entry = {'last': entry['value'], **entry}
    return (*(text(entry.get(key)) for key in KEYS), compared_to(entry))


def compared_to(entry: dict[str, Any]) -> str:
    """The published rows of a result, or why it may not be compared with them."""
    changes = changes_text((entry.get('provenance') or {}).get('changes'))
    if changes:
        return f'not comparable: {changes}'
    rows = [row for row in entry.get('published') or [] if isinstance(row, dict)]
    return '; '.join(f'{row.get("method", "?")}: {row.get("value", "?")}' for row in rows) or '-'


def changes_text(changes: dict[str, Any] | None) -> str:
    """Settings that were changed, in words."""
    return ', '.join(f'{key}={value}' for key, value in (changes or {}).items())


def text(value: Any) -> str:
    """A value in a table."""
    if value is None:
        return '-'
    return f'{value:.2f}' if isinstance(value, float) else str(value)
