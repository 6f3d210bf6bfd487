import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend


@register_backend('atomic')
class AtomicLocalBackend(LocalBackend):
    """File backend of MMEngine that replaces a local file in one step.

    A file is written under a temporary name, synchronised with the disk and renamed. If the process
    is killed or the disk is full, the previous file remains as it was. What an interrupted write
    leaves behind, ``NAME.tmp``, is overwritten by the next write to the same name.
    """

    _deferred: list[str | Path] | None = None

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes; missing folders are created, and a temporary file is deleted on failure."""
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f'{path.name}.tmp')
        try:
            with temporary.open('wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write a text."""
        self.put(obj.encode(encoding), filepath)

    def remove(self, filepath: str | Path) -> None:
        """Delete a file, within :meth:`deferred_removals` at its end."""
        if self._deferred is None:
            super().remove(filepath)
        else:
            self._deferred.append(filepath)

    @contextmanager
    def deferred_removals(self) -> Iterator[None]:
        """Delete files only when the block has ended, and not at all if it raises."""
        self._deferred = []
        try:
            yield
            removed = self._deferred
        finally:
            self._deferred = None
        for filepath in removed:
            super().remove(filepath)


def _sync_folder(folder: Path) -> None:
    """Synchronise the entry of a renamed file; without it the rename may be lost on power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
