"""The section of benchmark results, which lie in the run's folder as JSON files."""

import json
from pathlib import Path
from typing import Any

from .blocks import Absent, Block, Paragraph, Table
from .source import Source

FOLDER = 'benchmarks'
COLUMNS = ('protocol', 'checkpoint', 'metric', 'value', 'best', 'last', 'epochs', 'seed')
REQUIRED = ('protocol', 'metric', 'value')


def benchmarks(source: Source) -> list[Block]:
    """Results beside the published ones."""
    files = sorted((source.run.path / FOLDER).glob('*.json'))
    results, faults = [], []
    for file in files:
        found, fault = read_results(file)
        results += found
        faults += [fault] if fault else []
    if not results:
        why = f': {" ".join(faults)}' if faults else ''
        raise Absent(f'there is no result in {FOLDER}/*.json of the run{why}'.rstrip('.'))
    table = Table([*COLUMNS, 'published'], [_row(result) for result in results])
    return [table, *map(Paragraph, faults)]


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


def _row(result: dict[str, Any]) -> list[str]:
    published = ', '.join(
        f'{entry.get("method", "?")} {_text(entry.get("value"))}'
        for entry in result.get('published') or []
    )
    return [*(_text(result.get(name)) for name in COLUMNS), published or '-']


def _text(value: Any) -> str:
    if value is None:
        return '-'
    return f'{value:.2f}' if isinstance(value, float) else str(value)
