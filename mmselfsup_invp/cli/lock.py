import errno
import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = '.lock'
HELD = (errno.EACCES, errno.EAGAIN)


class WorkFolderInUse(OSError):
    """Another process trains in the work folder."""


@contextmanager
def work_folder_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a work folder, which is created if it is missing.

    A POSIX record lock on the file ``.lock``, which names the process and its machine. The kernel
    releases it when the process ends, also by ``kill -9``; on NFS it holds for all machines that
    mount the folder. On file systems without locks a warning is printed.

    Raises:
        WorkFolderInUse: If another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open('a+') as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in HELD:
                file.seek(0)
                raise WorkFolderInUse(
                    f'{folder} is in use by {file.read().strip() or "another process"}. Wait until '
                    'that run ends, stop it, or choose another folder by --work-dir.'
                ) from error
            print(f'warning: {folder} cannot be locked ({error}).', file=sys.stderr)
        with suppress(OSError):  # On a full disk the lock holds nevertheless.
            file.truncate(0)
            file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
            file.flush()
        yield
