import json
from types import SimpleNamespace

import pytest

from mmselfsup_invp.visualization.benchmarks import benchmarks
from mmselfsup_invp.visualization.blocks import Paragraph, Table, Unavailable

LINEAR = dict(
    protocol='linear', metric='top-1 (%)', value=61.234, best=61.9, last=61.2, epochs=30, seed=0
)


@pytest.fixture
def run_data(tmp_path):
    (tmp_path / 'benchmarks').mkdir()
    return SimpleNamespace(run=SimpleNamespace(path=tmp_path))


def write(run_data, name, content):
    (run_data.run.path / 'benchmarks' / name).write_text(json.dumps(content))


def test_results_are_shown_beside_published_ones(run_data):
    published = [dict(method='InvP', value=71.3), dict(method='MoCo v2', value=71.1)]
    published_text = 'InvP: 71.3; MoCo v2: 71.1'
    write(run_data, 'linear.json', dict(LINEAR, published=published))
    write(run_data, 'results.json', [dict(protocol='svm', metric='mAP (%)', value=80)])
    (table,) = benchmarks(run_data)
    assert table.rows == [
        ['linear', '-', 'top-1 (%)', '61.23', '61.90', '61.20', '30', '0', published_text],
        ['svm', '-', 'mAP (%)', '80', '-', '-', '-', '-', '-'],
    ]
    assert len(table.header) == 9


def test_files_that_are_no_results_are_named(run_data):
    write(run_data, 'linear.json', LINEAR)
    write(run_data, 'other.json', dict(accuracy=3))
    (run_data.run.path / 'benchmarks' / 'torn.json').write_text('{"proto')
    table, *notes = benchmarks(run_data)
    assert isinstance(table, Table) and len(table.rows) == 1
    assert all(isinstance(note, Paragraph) for note in notes)
    assert [note.text.split()[0] for note in notes] == ['other.json:', 'torn.json']


def test_the_section_is_omitted_without_results(run_data):
    with pytest.raises(Unavailable, match='no result in benchmarks'):
        benchmarks(run_data)
    write(run_data, 'other.json', 3)
    with pytest.raises(Unavailable, match='other.json: 1 entries without protocol'):
        benchmarks(run_data)
