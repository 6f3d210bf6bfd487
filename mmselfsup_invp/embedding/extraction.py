"""Features of a folder of images, which may exceed the memory."""

import errno
import json
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib.format import open_memmap

from ..datasets import ImageFiles
from ..datasets.files import listed, printable, replacing, write_whole
from ..evaluation.checkpoints import digest
from ..evaluation.encoder import Batch, Encoder
from ..options import NonNegativeInt, PositiveInt, check_option
from ..version import __version__
from .embedding import ABOUT, FEATURES, IMAGES, UNREADABLE, Embedding
from .tables import write_table

COPIED_ROWS = 65536
# Names the folder as one of embed until embedding.json does.
UNFINISHED = 'embedding.unfinished'
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
Broken = Literal['skip', 'raise']


def embed(
    checkpoint: str | Path | Encoder,
    images: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    size: int | None = None,
    batch_size: int = 64,
    num_workers: int | None = None,
    device: str | None = None,
    broken: Broken = 'skip',
) -> Embedding:
    """Features of images by the backbone of a checkpoint; see :class:`Encoder`.

    With ``out``, the features are written batch by batch to ``features.npy`` and mapped into
    memory, so that neither images nor features need to fit. The folder also gets ``images.csv``,
    the path of each row; ``unreadable.csv``, the images that were skipped; and ``embedding.json``,
    how the features were made. If the folder holds the features of the same network, view and files
    (by path, size and time of modification), they are read instead. If a call was interrupted, the
    next one starts again; until the end the folder holds ``embedding.unfinished``. The space of
    ``features.npy`` is reserved at the start.

    Args:
        checkpoint (str | Path | Encoder): ``epoch_*.pth`` of a pre-training run, or an encoder.
        images (str | Path | Sequence[str | Path]): A folder, of which every image is taken, sorted
            by path (:class:`~mmselfsup_invp.datasets.ImageFiles`), or paths of images.
        out (str | Path, optional): Folder to write. Defaults to None: the features are in memory.
        size (int, optional): Edge of the view in pixels. Defaults to None, the training size. Not
            used with an encoder, as ``device``.
        batch_size (int): Images in a batch. Defaults to 64.
        num_workers (int, optional): Processes that read images. Defaults to None: none for fewer
            than 256 images, else one for each core, 8 at most.
        device (str, optional): Defaults to None, a GPU if there is one.
        broken (str): What to do with an unreadable image: ``'skip'`` lists it and continues;
            ``'raise'`` is an error. Defaults to ``'skip'``.

    Returns:
        Embedding: Features and paths of the readable images, in their order.

    Raises:
        FileNotFoundError: If there is no checkpoint or folder.
        FileExistsError: If ``out`` holds other features, or files of these names that ``embed`` has
            not written.
        OSError: If the disk has no space for the features.
        ValueError: If an option is out of range, the checkpoint cannot be read, no image is
            readable, or one is not and ``broken`` is ``'raise'``.

    Example:
        >>> embedding = embed('epoch_200.pth', 'photos')  # doctest: +SKIP
        >>> embedding.features.shape, embedding.paths[0]  # doctest: +SKIP
        ((1000, 512), 'beach/1.jpg')
    """
    check_option('embed', 'broken', broken, Broken)
    check_option('embed', 'size', size, PositiveInt | None)
    check_option('embed', 'batch_size', batch_size, PositiveInt)
    check_option('embed', 'num_workers', num_workers, NonNegativeInt | None)
    encoder = checkpoint
    if not isinstance(encoder, Encoder):
        encoder = Encoder(checkpoint, size, device)
    files, names = image_files(images)
    key = digest([encoder.key, names, [_status(file) for file in files]])
    folder = None if out is None else Path(out)
    if folder is not None and (found := _finished(folder, key)):
        return found
    start = time.perf_counter()
    features = _create(folder, len(files), encoder.dimensions)
    batches = encoder.batches(files, batch_size, num_workers)
    kept, reasons = _fill(features, batches, broken)
    unreadable = {names[row]: reason for row, reason in reasons.items()}
    if unreadable and (broken == 'raise' or not kept):
        raise ValueError(_message(unreadable, len(kept)))
    paths = [names[row] for row in kept]
    seconds = round(time.perf_counter() - start, 1)
    embedding = Embedding(
        features[: len(kept)], paths, unreadable, _description(encoder) | dict(seconds=seconds)
    )
    return embedding if folder is None else _write(folder, embedding, key)


def image_files(images: str | Path | Sequence[str | Path]) -> tuple[list[str], list[str]]:
    """Paths of the images, and the names that the results show."""
    if isinstance(images, (str, Path)):
        if not os.path.isdir(images):
            raise FileNotFoundError(f'There is no folder {images}.')
        found = ImageFiles(data_root=str(images), lazy_init=True).load_data_list()
        files = [image['img_path'] for image in found]
        return files, [printable(os.path.relpath(file, images)) for file in files]
    files = [str(image) for image in images]
    return files, [printable(file) for file in files]


def _status(file: str) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except OSError:  # It will be listed as unreadable.
        return None
    return found.st_size, found.st_mtime_ns


def _finished(folder: Path, key: str) -> Embedding | None:
    """The embedding in a folder if it has this key; None if the folder holds none."""
    if not (folder / ABOUT).is_file():
        return None
    found = Embedding.read(folder)
    if found.about.get('key') != key:
        raise FileExistsError(
            f'{folder} holds the features of {len(found):,} images by '
            f'{found.about.get("checkpoint")}: of another network, another view, or other images '
            'than these. Choose another folder, or delete that one.'
        )
    return found


def refuse_foreign(folder: Path, names: Sequence[str] = (FEATURES, IMAGES, UNREADABLE)) -> None:
    """Raise ``FileExistsError`` if a folder holds such files and :func:`embed` did not start it."""
    if (folder / ABOUT).is_file() or (folder / UNFINISHED).is_file():
        return
    if found := [name for name in names if os.path.lexists(folder / name)]:
        raise FileExistsError(
            f'{folder} holds {listed(found)}, which would be overwritten, but neither {ABOUT} nor '
            f'{UNFINISHED}: they are not known to be of embed. Choose another folder, or move them '
            'away.'
        )


def _create(folder: Path | None, rows: int, columns: int) -> np.ndarray:
    if folder is None:
        return np.empty((rows, columns), np.float32)
    refuse_foreign(folder)
    folder.mkdir(parents=True, exist_ok=True)
    marker = 'The features are being computed, or this was interrupted: call embed again.\n'
    (folder / UNFINISHED).write_text(marker, encoding='utf-8')
    return _reserved(folder / FEATURES, (rows, columns))


def _reserved(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """A new mapped file whose space is reserved.

    The system kills a process that writes to a mapped page for which a full disk has no space.
    """
    features = open_memmap(path, 'w+', np.float32, shape)
    if not hasattr(os, 'posix_fallocate'):  # macOS
        return features
    size = path.stat().st_size
    try:
        with path.open('r+b') as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno not in NO_SPACE:  # The file system cannot reserve space.
            return features
        path.unlink()
        raise OSError(
            f'{path} needs {size / 2**20:,.1f} MiB for {shape[0]:,} x {shape[1]} features, which '
            f'the disk cannot give ({error.strerror}). Free space, or choose another folder.'
        ) from error
    return features


def _write(folder: Path, embedding: Embedding, key: str) -> Embedding:
    """Complete the folder whose features are those of an embedding."""
    if embedding.unreadable:
        # The file has a row for every image of the folder.
        with replacing(folder / FEATURES) as part:
            shorter = _reserved(part, embedding.features.shape)
            for start in range(0, len(embedding), COPIED_ROWS):
                rows = slice(start, start + COPIED_ROWS)
                shorter[rows] = embedding.features[rows]
            shorter.flush()
    write_table(folder / UNREADABLE, ['path', 'reason'], embedding.unreadable.items())
    write_table(folder / IMAGES, ['path'], ([path] for path in embedding.paths))
    images, dimensions = embedding.features.shape
    about = dict(embedding.about, images=images, dimensions=dimensions, key=key)
    # The last file: without it the embedding is not finished.
    write_whole(folder / ABOUT, json.dumps(about, indent=1) + '\n')
    (folder / UNFINISHED).unlink(missing_ok=True)
    return Embedding.read(folder)


def _fill(
    features: np.ndarray, batches: Iterable[Batch], broken: str
) -> tuple[list[int], dict[int, str]]:
    """Write the features of the readable images to the first rows.

    Returns the positions of these images, and why others cannot be read; the first one only if
    ``broken`` is ``'raise'``.
    """
    kept: list[int] = []
    unreadable: dict[int, str] = {}
    for batch in batches:
        features[len(kept) : len(kept) + len(batch.rows)] = batch.features.numpy()
        kept += batch.rows
        unreadable |= batch.unreadable
        if unreadable and broken == 'raise':
            break
    return kept, unreadable


def _message(unreadable: dict[str, str], kept: int) -> str:
    name, reason = next(iter(unreadable.items()))
    others = '' if kept or len(unreadable) == 1 else f', nor {len(unreadable) - 1} others'
    return f'Cannot read the image {name} ({reason}){others}. Restore or remove it.'


def _description(encoder: Encoder) -> dict[str, Any]:
    """What determines the features, for ``embedding.json``."""
    backbone = encoder.backbone
    return dict(
        checkpoint=str(backbone.path),
        experiment=backbone.experiment,
        epochs=backbone.epoch,
        network=backbone.fingerprint(),
        view=encoder.view,
        device=str(encoder.device),
        writer=f'mmselfsup_invp {__version__}',
    )
