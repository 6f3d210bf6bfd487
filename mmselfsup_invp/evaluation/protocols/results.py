"""Results of benchmarks: a JSON file for each, and a table of them all."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...datasets.files import write_whole
from .job import Job, Outcome

COLUMNS = {
    'benchmark': 'protocol',
    'network': 'checkpoint',
    **{name: name for name in ('metric', 'last', 'best', 'epochs', 'seed')},
}
REQUIRED = ('protocol', 'metric', 'value')
Result = dict[str, Any]


def finished(job: Job) -> Result | None:
    """The result of an earlier call of the same job; None if it is not finished."""
    results, _ = _read(job.result) if job.result.is_file() else ([], '')
    return results[0] if results else None


def write_outcome(job: Job, outcome: Outcome) -> Result:
    """Write the result of a job, which is returned, and the table of all results, each in one step.

    The published results are added unless settings were changed: they are for another recipe.
    """
    published = {} if job.provenance['changes'] else job.benchmark.published
    result = dict(
        protocol=job.benchmark.name,
        title=job.benchmark.title,
        id=job.id,
        checkpoint='random initialisation' if job.random_init else job.backbone.path.name,
        experiment=job.backbone.experiment,
        pretraining_epochs=0 if job.random_init else job.backbone.epoch,
        metric=job.benchmark.metric,
        value=outcome.last,
        seed=job.seed,
        published=[dict(method=key, value=value) for key, value in published.items()],
        provenance=job.provenance,
        **asdict(outcome),
    )
    write_whole(job.result, json.dumps(result, indent=1, default=str) + '\n')
    write_whole(job.out / 'results.md', results_table(job.out))
    return result


def _read(file: Path) -> tuple[list[Result], str]:
    """The results in a JSON file, and a sentence about entries that are not results."""
    try:
        content = json.loads(file.read_text())
    except ValueError as error:
        return [], f'{file.name} is no JSON file: {error}.'
    entries = content if isinstance(content, list) else [content]
    results = [entry for entry in entries if isinstance(entry, dict) and {*REQUIRED} <= {*entry}]
    skipped = len(entries) - len(results)
    message = f'{file.name}: {skipped} entries without {", ".join(REQUIRED)} are left out.'
    return results, message if skipped else ''


def read_folder(folder: str | Path) -> tuple[list[Result], list[str]]:
    """Read all results in a folder, and a sentence for each file that holds something else.

    Results that agree in protocol, checkpoint and seed, such as those of a run before and after it
    was trained anew, have their ``id`` behind the name of the checkpoint.
    """
    contents = [_read(file) for file in sorted(Path(folder).glob('*.json'))]
    results = [result for each, _ in contents for result in each]
    keys = [
        tuple(str(each.get(key)) for key in ('protocol', 'checkpoint', 'seed')) for each in results
    ]
    counts = Counter(keys)
    for result, key in zip(results, keys, strict=True):
        if counts[key] > 1 and 'id' in result:
            result['checkpoint'] = f'{result.get("checkpoint")} ({result["id"]})'
    return results, [message for _, message in contents if message]


def results_table(folder: str | Path) -> str:
    """All results in a folder, see :func:`read_folder`, as a table in Markdown."""
    results, messages = read_folder(folder)
    rows = [[*COLUMNS, 'published'], ['---'] * (len(COLUMNS) + 1)]
    for result in results:
        result = {'last': result['value'], **result}
        result['last'] = with_interval(result)
        rows.append([*(text(result.get(key)) for key in COLUMNS.values()), compared_to(result)])
    lines = [f'| {" | ".join(row)} |\n' for row in rows]
    return ''.join([*lines, *(f'\n{message}\n' for message in messages)])


def compared_to(result: Result) -> str:
    """Results without pre-training, or the published ones, or why these cannot be compared."""
    if references := result.get('references'):
        return '; '.join(f'{name}: {text(value)}' for name, value in references.items())
    changes = (result.get('provenance') or {}).get('changes')
    if changes:
        settings = ', '.join(f'{key}={value}' for key, value in changes.items())
        return f'not comparable: {settings}'
    rows = [row for row in result.get('published') or [] if isinstance(row, dict)]
    return '; '.join(f'{row.get("method", "?")}: {row.get("value", "?")}' for row in rows) or '-'


def with_interval(result: Result) -> str:
    """The last value, with its confidence interval if there is one."""
    value, interval = text(result['last']), result.get('interval')
    return f'{value} ({text(interval[0])} to {text(interval[1])})' if interval else value


def text(value: Any) -> str:
    """A value in a table."""
    if value is None:
        return '-'
    return f'{value:.2f}' if isinstance(value, float) else str(value)
