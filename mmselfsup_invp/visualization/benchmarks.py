"""The section of benchmark results, JSON files in the folder ``benchmarks`` of the run."""

from ..evaluation.protocols.results import compared_to, read_folder, text
from .blocks import Block, Paragraph, Table, Unavailable
from .run_data import RunData

FOLDER = 'benchmarks'
COLUMNS = ('protocol', 'checkpoint', 'metric', 'value', 'best', 'last', 'epochs', 'seed')


def benchmarks(data: RunData) -> list[Block]:
    """Show benchmark results beside the published ones."""
    results, errors = read_folder(data.run.path / FOLDER)
    if not results:
        reason = f': {" ".join(errors)}' if errors else ''
        raise Unavailable(f'there is no result in {FOLDER}/*.json of the run{reason}'.rstrip('.'))
    rows = [
        [*(text(result.get(name)) for name in COLUMNS), compared_to(result)] for result in results
    ]
    return [Table([*COLUMNS, 'published'], rows), *map(Paragraph, errors)]
