import errno
import os

import pytest
from mmengine.fileio import get_file_backend, put_text

from mmselfsup_invp.engine import atomic_backend
from mmselfsup_invp.engine.atomic_backend import AtomicLocalBackend


@pytest.fixture
def backend():
    return AtomicLocalBackend()


def test_files_are_written_and_replaced(backend, tmp_path):
    path = tmp_path / 'folder' / 'file'
    for content in (b'first', b'second'):
        backend.put(content, path)
        assert path.read_bytes() == content
    put_text('ü', str(path), backend_args=dict(backend='atomic'))
    assert path.read_text(encoding='utf-8') == 'ü'
    assert os.listdir(path.parent) == ['file']
    assert type(get_file_backend(str(path), backend_args=dict(backend='atomic'))) is type(backend)


@pytest.mark.parametrize('step', ['fsync', 'replace'])
def test_a_failed_write_leaves_the_file_as_it_was(backend, tmp_path, monkeypatch, step):
    backend.put(b'old', tmp_path / 'file')

    def full(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(atomic_backend.os, step, full)
    with pytest.raises(OSError, match='No space left'):
        backend.put(b'new', tmp_path / 'file')
    assert (tmp_path / 'file').read_bytes() == b'old' and os.listdir(tmp_path) == ['file']


def test_the_file_is_synchronised_before_it_is_renamed(backend, tmp_path, monkeypatch):
    calls = []
    for name in ('fsync', 'replace'):
        original = getattr(os, name)

        def recorded(*inputs, name=name, original=original):
            calls.append(name)
            return original(*inputs)

        monkeypatch.setattr(atomic_backend.os, name, recorded)
    backend.put(b'content', tmp_path / 'file')
    assert calls == ['fsync', 'replace', 'fsync']  # The last one is that of the folder.


def test_deferred_removals(backend, tmp_path):
    for name in 'abc':
        backend.put(b'', tmp_path / name)
    with backend.deferred_removals():
        backend.remove(tmp_path / 'a')
        assert (tmp_path / 'a').exists()
    assert not (tmp_path / 'a').exists()
    with pytest.raises(OSError), backend.deferred_removals():
        backend.remove(tmp_path / 'b')
        raise OSError
    backend.remove(tmp_path / 'c')
    assert os.listdir(tmp_path) == ['b']
