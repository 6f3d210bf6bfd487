"""Files of an embedding for other programs: CSV, Parquet and faiss."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.files import replacing

ROWS = 16384  # Written at a time.
# Later versions of pyarrow need NumPy 2.
PACKAGES = {'pyarrow': '"pyarrow<22"', 'faiss': 'faiss-cpu'}


def require_package(name: str, purpose: str) -> None:
    """Raise ``ModuleNotFoundError`` with the command that installs an optional package."""
    if find_spec(name) is None:
        raise ModuleNotFoundError(
            f'{purpose} needs {name}, which is not installed: pip install {PACKAGES[name]}'
        )


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file, UTF-8, row by row; readers see the whole file or the old one."""
    with replacing(path) as part, part.open('w', encoding='utf-8', newline='') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(header)
        writer.writerows(rows)


def read_table(path: Path) -> list[list[str]]:
    """Rows of a file of :func:`write_table`, without the header."""
    with path.open(encoding='utf-8', newline='') as file:
        return list(csv.reader(file))[1:]


def write_parquet(path: Path, features: np.ndarray, paths: Sequence[str]) -> None:
    """Write a Parquet file with the columns ``path`` and ``feature``, a list of float32."""
    require_package('pyarrow', 'A Parquet file')
    import pyarrow
    from pyarrow import parquet

    kind = pyarrow.list_(pyarrow.float32(), features.shape[1])
    schema = pyarrow.schema([('path', pyarrow.string()), ('feature', kind)])
    with replacing(path) as part, parquet.ParquetWriter(part, schema) as writer:
        for rows in _slices(len(paths)):
            values = pyarrow.array(features[rows].ravel())
            feature = pyarrow.FixedSizeListArray.from_arrays(values, features.shape[1])
            path_column = pyarrow.array(paths[rows], pyarrow.string())
            writer.write_table(pyarrow.table([path_column, feature], schema=schema))


def write_index(path: Path, features: np.ndarray) -> None:
    """Write a faiss ``IndexFlatIP``, which finds the same images as the exact search.

    The index is built in memory. Its ids are the rows of the features.
    """
    require_package('faiss', 'A faiss index')
    import faiss

    index = faiss.IndexFlatIP(features.shape[1])
    for rows in _slices(len(features)):
        index.add(np.ascontiguousarray(features[rows]))
    with replacing(path) as part:
        faiss.write_index(index, str(part))


def _slices(rows: int) -> Iterator[slice]:
    return (slice(start, start + ROWS) for start in range(0, rows, ROWS))
