import sys

import numpy as np
import pytest
import torch

from mmselfsup_invp.embedding import tables

from ..toy import rows

NAMES = ['a.jpg', 'b, "c".jpg', 'd\ne.jpg', 'ü.jpg', '']


def test_a_table_is_read_as_it_was_written(tmp_path):
    path = tmp_path / 'table.csv'
    tables.write_table(path, ['path', 'row'], zip(NAMES, range(5), strict=True))
    assert tables.read_table(path) == [[name, str(row)] for row, name in enumerate(NAMES)]
    assert path.read_text().startswith('path,row\n') and [*tmp_path.iterdir()] == [path]


def test_a_failed_table_leaves_the_old_one(tmp_path):
    path = tmp_path / 'table.csv'
    tables.write_table(path, ['path'], [['old']])
    with pytest.raises(ZeroDivisionError):
        tables.write_table(path, ['path'], ([1 / number] for number in (1, 0)))
    assert tables.read_table(path) == [['old']]


@pytest.mark.parametrize('block', [2, 100])
def test_a_parquet_file_holds_paths_and_features(tmp_path, monkeypatch, block):
    parquet = pytest.importorskip('pyarrow.parquet')
    monkeypatch.setattr(tables, 'ROWS', block)
    features = rows(5).numpy()
    tables.write_parquet(tmp_path / 'features.parquet', features, NAMES)
    table = parquet.read_table(tmp_path / 'features.parquet').to_pydict()
    assert table['path'] == NAMES
    np.testing.assert_array_equal(np.array(table['feature'], np.float32), features)


@pytest.mark.parametrize('block', [2, 100])
def test_an_index_finds_the_same_images(tmp_path, monkeypatch, block):
    faiss = pytest.importorskip('faiss')
    monkeypatch.setattr(tables, 'ROWS', block)
    features = rows(9)
    tables.write_index(tmp_path / 'index.faiss', features.numpy())
    index = faiss.read_index(str(tmp_path / 'index.faiss'))
    similarity, found = index.search(features.numpy(), 3)
    expected = (features @ features.T).topk(3)
    torch.testing.assert_close(torch.from_numpy(similarity), expected.values)
    torch.testing.assert_close(torch.from_numpy(found), expected.indices)
    assert isinstance(index, faiss.IndexFlatIP)


@pytest.mark.parametrize(
    ('write', 'argument', 'package'),
    [('write_parquet', NAMES, 'pyarrow'), ('write_index', None, 'faiss-cpu')],
)
def test_a_missing_package_is_named_with_its_command(
    tmp_path, monkeypatch, write, argument, package
):
    monkeypatch.setitem(sys.modules, package.partition('-')[0], None)
    monkeypatch.setattr(tables, 'find_spec', lambda name: None)
    arguments = [tmp_path / 'file', np.ones((5, 2), np.float32)]
    with pytest.raises(ModuleNotFoundError, match=f'pip install .*{package}'):
        getattr(tables, write)(*arguments, *([argument] if argument else []))
