"""The rows of the table, as a file lists them."""

import json
from pathlib import Path

from .cells import Cell


def read_grid(path: Path, names: list[str] | None = None) -> list[Cell]:
    """Cells of the rows in the file, seed by seed of each row; of the named rows if any are given.

    Args:
        path (Path): A JSON list of rows: ``name``, ``config``, ``seeds``, ``budget`` and, if any,
            ``options`` and ``prefix``, see :class:`Cell`.
        names (list[str], optional): Rows to take. Defaults to None, all.
    """
    rows = json.loads(path.read_text())
    return [
        Cell(
            row['name'],
            row['config'],
            seed,
            row['budget'],
            row.get('options', {}),
            row.get('prefix'),
        )
        for row in rows
        if not names or row['name'] in names
        for seed in row['seeds']
    ]
