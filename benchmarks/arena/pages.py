"""Tables of chosen rows in the pages that show results.

A page has two comments, ``<!-- results: NAME -->`` and ``<!-- end of results -->``; what lies
between them is written from the results.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from .report import (
    FIGURES,
    by_run,
    differences,
    gain,
    markdown,
    mean_and_error,
    runs_of,
    seconds,
    twins_of,
    values,
)


def write_pages(
    results: list[dict],
    pairs: list[tuple[str, str]],
    labels: dict[str, str],
    tables: list[dict],
    root: Path,
) -> None:
    """Write the tables into their pages.

    Args:
        results (list[dict]): Lines of the results file.
        pairs (list[tuple[str, str]]): Names of two rows; the second is subtracted.
        labels (dict[str, str]): What to write for the name of a row.
        tables (list[dict]): ``page``, relative to ``root``, and ``name`` of each; if not all,
            ``trials``, the names of its rows, and ``columns``; if any, ``twins``, see
            :func:`chosen_rows`. With ``differences=true`` it has the pairs of these rows instead.
        root (Path): Folder of the pages.

    Raises:
        ValueError: If a page has no place for its table, or a row no result.
    """
    for table in tables:
        chosen = {name: labels[name] for name in table.get('trials', labels)}
        if table.get('differences'):
            within = [pair for pair in pairs if chosen.keys() >= set(pair)]
            text = differences(results, within, labels)
        else:
            columns = table.get('columns', list(FIGURES))
            text = chosen_rows(results, chosen, columns, table.get('twins', {}))
        page = root / table['page']
        page.write_text(fill(page.read_text(), table['name'], text, page))


def chosen_rows(
    results: Iterable[dict], labels: dict[str, str], columns: list[str], twins: dict[str, str]
) -> str:
    """A table in Markdown of the rows in this order, with the gain over a twin where one is named.

    Args:
        results (Iterable[dict]): Lines of the results file.
        labels (dict[str, str]): Names of the rows, and what to write for them.
        columns (list[str]): Keys of ``FIGURES``.
        twins (dict[str, str]): Rows and what they are compared with, seed by seed.
    """
    runs = by_run(results)
    head = [part for column in columns for part in ([column, 'gain'] if twins else [column])]
    lines = [['', 'seeds', 'seconds', *head]]
    for name, label in labels.items():
        cells = list(runs_of(runs, name).values())
        pairs = twins_of(runs, name, twins.get(name, ''))
        line = [label, str(len(cells)), seconds(cells)]
        for key in map(FIGURES.__getitem__, columns):
            line.append(mean_and_error(values(cells, key)))
            if twins:
                line.append(mean_and_error(gain(pairs, key)))
        lines.append(line)
    return markdown(lines)


def fill(text: str, name: str, table: str, page: Path) -> str:
    """The text of a page with the table between its comments.

    Raises:
        ValueError: If the page does not have both comments once.
    """
    start, end = f'<!-- results: {name} -->', '<!-- end of results -->'
    pattern = re.compile(f'{re.escape(start)}\n.*?{re.escape(end)}', re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f'{page} needs one place for the table {name}: {start}, then {end}.')
    return pattern.sub(lambda _: f'{start}\n\n{table}\n{end}', text)
