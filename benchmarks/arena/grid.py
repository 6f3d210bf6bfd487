"""The rows of the table, as a file lists them."""

import json
from pathlib import Path

from .cells import Cell


def read_grid(path: Path, names: list[str] | None = None) -> list[Cell]:
    """Cells of the rows in the file, seed by seed of each row; of the named rows if any are given.

    Args:
        path (Path): A JSON list of rows: ``name``, ``config``, ``seeds``, ``budget`` and, if any,
            ``options`` and ``prefix``, see :class:`Cell`, and ``against``, see :func:`read_pairs`.
            Or an object of such ``rows`` and of ``options`` that all of them have.
        names (list[str], optional): Rows to take. Defaults to None, all.
    """
    return [
        Cell(
            row['name'],
            row['config'],
            seed,
            row['budget'],
            row.get('options', {}),
            row.get('prefix'),
        )
        for row in _read_rows(path)
        if not names or row['name'] in names
        for seed in row['seeds']
    ]


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Names of the rows that are compared seed by seed: a row and each one in its ``against``.

    Raises:
        ValueError: If ``against`` names a row that the file does not have.
    """
    rows = _read_rows(path)
    names = {row['name'] for row in rows}
    pairs = [(row['name'], other) for row in rows for other in row.get('against', [])]
    for name, other in pairs:
        if other not in names:
            raise ValueError(f'{path}: {name} is compared with {other}, which is not a row.')
    return pairs


def _read_rows(path: Path) -> list[dict]:
    """The rows, with the options that all of them have in each and in its prefix."""
    grid = json.loads(path.read_text())
    if isinstance(grid, list):
        return grid
    for row in grid['rows']:
        for part in filter(None, (row, row.get('prefix'))):
            part['options'] = {**grid['options'], **part.get('options', {})}
    return grid['rows']
