"""One process at a time trains in a work folder."""

import errno
import os
import signal
import socket
from contextlib import contextmanager

import pytest

from mmselfsup_invp.cli import lock
from mmselfsup_invp.cli.lock import WorkFolderInUse, work_folder_lock


@contextmanager
def holder(folder, workers=0):
    """Another process that holds the lock, and processes that it has forked; gives its id."""
    ready, done = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        with work_folder_lock(folder):
            for _ in range(workers):
                if not os.fork():
                    break
            os.close(done[1])
            os.write(ready[1], b'.')
            os.read(done[0], 1)
        os._exit(0)
    for _ in range(1 + workers):
        os.read(ready[0], 1)
    try:
        yield pid
    finally:
        for end in (*ready, *done):
            os.close(end)
        os.waitpid(pid, 0)


def test_a_second_process_is_refused_by_name(tmp_path):
    with holder(tmp_path / 'work') as pid:
        message = rf'work is in use by process {pid} on {socket.gethostname()}. .* --work-dir'
        with pytest.raises(WorkFolderInUse, match=message), work_folder_lock(tmp_path / 'work'):
            pass
    with work_folder_lock(tmp_path / 'work'):  # The process has ended.
        pass


def test_a_killed_process_leaves_no_lock_and_neither_do_its_workers(tmp_path):
    with holder(tmp_path, workers=2) as pid:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert f'process {pid}' in (tmp_path / lock.LOCK).read_text()
        with work_folder_lock(tmp_path):
            assert f'process {os.getpid()} ' in (tmp_path / lock.LOCK).read_text()


def test_without_locks_in_the_file_system_a_warning_is_printed(tmp_path, monkeypatch, capsys):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(lock.fcntl, 'lockf', unsupported)
    with work_folder_lock(tmp_path):
        pass
    assert 'cannot be locked ([Errno 37] No locks available)' in capsys.readouterr().err
