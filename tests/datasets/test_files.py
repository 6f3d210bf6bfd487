import multiprocessing

import pytest

from mmselfsup_invp.datasets.files import file_sizes, replacing, write_whole

ROUNDS = 200


def write_often(path, letter):
    for _ in range(ROUNDS):
        write_whole(path, letter * 1000)


def test_a_file_is_replaced_at_the_end(tmp_path):
    path = tmp_path / 'folder' / 'file.txt'
    write_whole(path, 'old')
    with replacing(path) as temporary:
        temporary.write_text('new')
        assert path.read_text() == 'old'
    assert path.read_text() == 'new' and [*path.parent.iterdir()] == [path]


def test_writers_do_not_share_a_temporary_file(tmp_path):
    path = tmp_path / 'file.txt'
    with replacing(path) as one:
        one.write_text('one')
        with replacing(path) as two:
            two.write_text('two')
        assert path.read_text() == 'two'
    assert path.read_text() == 'one'


def test_processes_that_write_the_same_file(tmp_path):
    path = tmp_path / 'file.txt'
    context = multiprocessing.get_context('fork')
    writers = [context.Process(target=write_often, args=(path, letter)) for letter in 'abc']
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert path.read_text() in {letter * 1000 for letter in 'abc'}
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize('error', [OSError, KeyboardInterrupt])
def test_a_failed_write_leaves_nothing(tmp_path, error):
    path = tmp_path / 'file.txt'
    path.write_text('old')
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text('part')
        raise error
    assert path.read_text() == 'old' and [*tmp_path.iterdir()] == [path]


def test_sizes_are_in_the_order_of_the_files(tmp_path):
    paths = [tmp_path / f'{number}' for number in range(600)]
    for number, path in enumerate(paths):
        path.write_bytes(b'0' * number)
    paths[7].unlink()
    sizes = [*range(7), -1, *range(8, 600), -1]
    assert file_sizes([*map(str, paths), 'a\0b']) == sizes
    assert file_sizes([]) == []
