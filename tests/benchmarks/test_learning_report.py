"""The tables of the comparison of methods, and the pages that show them."""

import json
from argparse import Namespace

import pytest

from benchmarks import learning
from benchmarks.arena import pages, report
from benchmarks.arena.cells import read_results
from benchmarks.arena.grid import read_pairs


@pytest.fixture
def measured():
    """Results of a method with three seeds, of its twin with two and of another one with one."""
    accuracies = {
        ('a', 0): 40.0,
        ('a', 1): 44.0,
        ('a', 2): 90.0,
        ('twin', 0): 39.0,
        ('twin', 1): 41.0,
        ('b', 0): 30.0,
    }
    return [
        dict(
            key=f'{name}{seed}', name=name, seed=seed, budget=12, seconds=9.6,
            figures=dict(backbone=value),
        )
        for (name, seed), value in accuracies.items()
    ]  # fmt: skip


def test_table_has_mean_and_standard_error():
    figures = [dict(backbone=40.0, probe=1.0), dict(backbone=42.0, probe=3.0)]
    results = [
        dict(key=f'a{i}', name='a', budget=12, network_passes=12, seconds=5, figures=one)
        for i, one in enumerate(figures)
    ]
    line = report.table(results).splitlines()[2]
    assert line == '| a | 2 | 12 | 5 | 41.0 ± 1.0 |  | 2.0 ± 1.0 |  |  |  |  |  |  |'


def test_differences_are_taken_within_a_seed(measured):
    lines = report.differences(measured, [('a', 'twin'), ('a', 'c')], {'a': 'A'}).splitlines()
    assert lines[2:] == ['| A - twin | 2 | 2.00 ± 1.00 |  |  |  |  |  |  |  |  |']


def test_a_page_gets_the_chosen_rows_between_its_comments(measured, tmp_path):
    page = tmp_path / 'page.md'
    place = '<!-- results: {} -->\n{}<!-- end of results -->\n'
    page.write_text(
        f'Before.\n\n{place.format("rows", "stale")}\n{place.format("pairs", "")}\nAfter.\n'
    )
    tables = [
        dict(page='page.md', name='rows', columns=['kNN backbone', 'NMI'], trials=['b', 'a'],
             twins={'a': 'twin'}),
        dict(page='page.md', name='pairs', differences=True),
    ]  # fmt: skip
    labels = {'a': 'A', 'b': 'B', 'twin': 'T'}
    for _ in range(2):  # The second time changes nothing.
        pages.write_pages(measured, [('a', 'twin'), ('a', 'unlabelled')], labels, tables, tmp_path)
        lines = page.read_text().splitlines()
        assert lines[:2] == ['Before.', ''] and lines[-1] == 'After.'
        assert lines[2:10] == [
            '<!-- results: rows -->',
            '',
            '|  | seeds | seconds | kNN backbone | gain | NMI | gain |',
            '|---|---|---|---|---|---|---|',
            '| B | 1 | 10 | 30.0 |  |  |  |',
            '| A | 3 | 10 | 58.0 ± 16.0 | 2.0 ± 1.0 |  |  |',
            '',
            '<!-- end of results -->',
        ]
        assert '| A - T | 2 | 2.00 ± 1.00 |  |  |  |  |  |  |  |  |' in lines
        assert len(lines) == 20


def test_a_page_without_a_place_for_its_table_is_refused(measured, tmp_path):
    page = tmp_path / 'page.md'
    page.write_text('Text.\n')
    table = dict(page='page.md', name='rows')
    with pytest.raises(ValueError, match='page.md needs one place for the table rows'):
        pages.write_pages(measured, [], {'a': 'A'}, [table], tmp_path)
    with pytest.raises(ValueError, match='There is no result of c'):
        pages.write_pages(measured, [], {'c': 'C'}, [table], tmp_path)
    assert page.read_text() == 'Text.\n'


def test_the_pages_show_the_results(tmp_path):
    """``report`` changes no page, so that no figure was typed or is out of date."""
    spec = json.loads((learning.ARENA / 'pages.json').read_text())
    names = sorted({table['page'] for table in spec['tables']})
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((learning.ROOT / name).read_text())
    results = read_results(learning.ARENA / 'test.jsonl')
    pairs = read_pairs(learning.ARENA / 'grid.json')
    pages.write_pages(results, pairs, spec['labels'], spec['tables'], tmp_path)
    for name in names:
        assert (tmp_path / name).read_text() == (learning.ROOT / name).read_text()


def test_report_of_a_folder_writes_its_tables_and_curves(measured, tmp_path):
    """A folder of one's own has no ``pages.json``: no page of the project changes."""
    grid = tmp_path / 'grid.json'
    rows = [dict(name=name, config='simclr', seeds=[0], budget=12) for name in ('a', 'twin', 'b')]
    grid.write_text(json.dumps([dict(rows[0], against=['twin']), *rows[1:]]))
    shared = dict(network_passes=12, epochs=2, curves={report.CURVE: {1: 20.0, 2: 30.0}})
    for name in ('trials', 'test'):
        lines = [json.dumps(line | shared) for line in measured]
        (tmp_path / f'{name}.jsonl').write_text('\n'.join(lines))
    learning.run_report(Namespace(grid=grid, folder=tmp_path, root=tmp_path / 'none'))
    for name in ('trials', 'test'):
        text = (tmp_path / f'{name}.md').read_text()
        assert '| a | 3 | 12 | 10 | 58.0 ± 16.0 |' in text
        assert '| a - twin | 2 | 2.00 ± 1.00 |' in text
    assert (tmp_path / 'curves.png').stat().st_size > 1000
