import json
from types import SimpleNamespace

import pytest

from mmselfsup_invp.visualization.benchmarks import benchmarks
from mmselfsup_invp.visualization.blocks import Absent, Paragraph, Table

LINEAR = dict(
    protocol='linear', metric='top-1 (%)', value=61.234, best=61.9, last=61.2, epochs=30, seed=0
)


@pytest.fixture
def source(tmp_path):
    (tmp_path / 'benchmarks').mkdir()
    return SimpleNamespace(run=SimpleNamespace(path=tmp_path))


def write(source, name, content):
    (source.run.path / 'benchmarks' / name).write_text(json.dumps(content))


def test_results_stand_beside_published_ones(source):
    published = [dict(method='InvP', value=71.3), dict(method='MoCo v2', value=71.1)]
    write(source, 'linear.json', dict(LINEAR, published=published))
    write(source, 'results.json', [dict(protocol='svm', metric='mAP (%)', value=80)])
    (table,) = benchmarks(source)
    assert table.rows == [
        [
            'linear',
            '-',
            'top-1 (%)',
            '61.23',
            '61.90',
            '61.20',
            '30',
            '0',
            'InvP: 71.3; MoCo v2: 71.1',
        ],
        ['svm', '-', 'mAP (%)', '80', '-', '-', '-', '-', '-'],
    ]
    assert len(table.header) == 9


def test_a_file_that_is_no_result_is_named(source):
    write(source, 'linear.json', LINEAR)
    write(source, 'other.json', dict(accuracy=3))
    (source.run.path / 'benchmarks' / 'torn.json').write_text('{"proto')
    table, *notes = benchmarks(source)
    assert isinstance(table, Table) and len(table.rows) == 1
    assert all(isinstance(note, Paragraph) for note in notes)
    assert [note.text.split()[0] for note in notes] == ['other.json:', 'torn.json']


def test_without_results_the_section_is_absent(source):
    with pytest.raises(Absent, match='no result in benchmarks'):
        benchmarks(source)
    write(source, 'other.json', 3)
    with pytest.raises(Absent, match='other.json: 1 entries without protocol'):
        benchmarks(source)
