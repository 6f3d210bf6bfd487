"""The section of benchmark results, which lie in the run's folder as JSON files."""

from ..evaluation.protocols.results import compared_to, read_folder, text
from .blocks import Absent, Block, Paragraph, Table
from .source import Source

FOLDER = 'benchmarks'
COLUMNS = ('protocol', 'checkpoint', 'metric', 'value', 'best', 'last', 'epochs', 'seed')


def benchmarks(source: Source) -> list[Block]:
    """Results beside the published ones."""
    results, faults = read_folder(source.run.path / FOLDER)
    if not results:
        why = f': {" ".join(faults)}' if faults else ''
        raise Absent(f'there is no result in {FOLDER}/*.json of the run{why}'.rstrip('.'))
    rows = [
        [*(text(result.get(name)) for name in COLUMNS), compared_to(result)] for result in results
    ]
    return [Table([*COLUMNS, 'published'], rows), *map(Paragraph, faults)]
