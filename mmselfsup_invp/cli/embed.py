"""Features of a folder of images as ``tools/embed.py`` writes them."""

import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..embedding import Embedding, embed
from ..embedding.extraction import image_files, refuse_foreign
from ..embedding.tables import require_package, write_index, write_parquet, write_table
from ..evaluation import Encoder
from ..ops import Neighbours
from ..ops.checks import require_range
from ..options import MAX_INT, Fraction, accepts

MAX_SIZE = 16384  # Pixels of an edge; a larger one is a mistake.
# Files that options add to a folder of features.
ADDED = dict(
    neighbours='neighbours.csv',
    clusters='clusters.csv',
    duplicates='duplicates.csv',
    query='matches.csv',
    parquet='features.parquet',
    index='index.faiss',
)


def run(args: Namespace) -> None:
    """Write the files that the command line asks for, and print what each of them holds."""
    # Before the images are read, which may take hours.
    _require_options(args)
    refuse_foreign(args.out, [name for option, name in ADDED.items() if _given(args, option)])
    if args.parquet:
        require_package('pyarrow', '--parquet')
    if args.index:
        require_package('faiss', '--index')
    start = time.perf_counter()
    encoder = Encoder(args.checkpoint, args.size, args.device)
    query = embed(encoder, args.query, broken='raise') if args.query else None
    embedding = embed(
        encoder,
        args.folder,
        args.out,
        batch_size=args.batch_size,
        num_workers=args.workers,
        broken=args.broken,
    )
    _require_images(args, len(embedding), 'readable images')
    for line in _lines(embedding, query, args):
        print(line, flush=True)
    print(f'{time.perf_counter() - start:.1f} s in all')


def _given(args: Namespace, option: str) -> bool:
    value = getattr(args, option)
    return value is not None and value is not False  # --duplicates 0 is given.


def _require_options(args: Namespace) -> None:
    """Raise ``ValueError`` for a value that is out of range, by the name of the option."""
    for name, value, low, high, why in (
        ('--size', args.size, 1, MAX_SIZE, 'it is the edge of the view in pixels'),
        ('--batch-size', args.batch_size, 1, MAX_INT, 'a batch needs an image'),
        ('--workers', args.workers, 0, MAX_INT, '0 reads the images without processes'),
        ('--neighbours', args.neighbours, 1, MAX_INT, 'it is the number of images to find'),
        ('--matches', args.matches, 1, MAX_INT, 'it is the number of images to find'),
    ):
        if value is not None:
            require_range(name, value, low, high, why)
    if args.duplicates is not None and not accepts(Fraction, args.duplicates):
        raise ValueError(
            f'--duplicates = {args.duplicates} is outside the valid range 0 to 1: it is a cosine '
            'similarity, such as 0.98.'
        )
    if args.clusters is not None or args.neighbours is not None:
        _require_images(args, len(image_files(args.folder)[0]), 'images')


def _require_images(args: Namespace, count: int, what: str) -> None:
    """Raise ``ValueError`` if an option needs more images than there are."""
    why = f'{args.folder} has {count:,} {what}'
    if args.clusters is not None:
        require_range('--clusters', args.clusters, 1, count, why)
    if args.neighbours is not None and count < 2:
        raise ValueError(
            f'--neighbours = {args.neighbours} needs 2 images or more: {why}. Add images, or call '
            'without --neighbours.'
        )


def _lines(embedding: Embedding, query: Embedding | None, args: Namespace) -> Iterator[str]:
    """Write the files one by one; a line about each."""
    yield from _features(embedding, args)
    tables = (
        ('neighbours', args.neighbours, _neighbours),
        ('clusters', args.clusters, _clusters),
        ('duplicates', args.duplicates, _duplicates),
    )
    for name, option, write in tables:
        if option is not None:
            path = args.out / ADDED[name]
            yield f'{path}  {write(path, embedding, option)}'
    if query is not None:
        yield from _matches(args.out / ADDED['query'], embedding, query, args.matches)


def _features(embedding: Embedding, args: Namespace) -> Iterator[str]:
    about = embedding.about
    size = 'x'.join(map(str, about['view'][-1]['transforms'][-1]['size']))
    yield (
        f'{len(embedding):,} images at {size} pixels by {about["checkpoint"]} ({about["epochs"]} '
        f'epochs), {about["seconds"]} s on {about["device"]}'
    )
    yield f'{args.out / "features.npy"}  {len(embedding):,} x {about["dimensions"]}, unit rows'
    yield f'{args.out / "images.csv"}  the path of each row'
    if embedding.unreadable:
        yield f'{args.out / "unreadable.csv"}  {len(embedding.unreadable):,} images were skipped'
    if args.parquet:
        write_parquet(args.out / ADDED['parquet'], embedding.features, embedding.paths)
        yield f'{args.out / ADDED["parquet"]}  paths and features'
    if args.index:
        write_index(args.out / ADDED['index'], embedding.features)
        yield f'{args.out / ADDED["index"]}  IndexFlatIP of faiss'


def _neighbours(path: Path, embedding: Embedding, k: int) -> str:
    k = min(k, len(embedding) - 1)
    rows = _ranked(embedding.paths, embedding, embedding.neighbours(k))
    write_table(path, ['path', 'rank', 'neighbour', 'similarity'], rows)
    return f'the {k} nearest images of each'


def _ranked(names: Sequence[str], embedding: Embedding, found: Neighbours) -> Iterator[tuple]:
    """Rows of a table: for each name the images that were found, with ranks and similarities."""
    for name, *nearest in zip(names, found.index, found.similarity, strict=True):
        pairs = zip(*(each.tolist() for each in nearest), strict=True)
        for rank, (row, similarity) in enumerate(pairs, 1):
            yield name, rank, embedding.paths[row], f'{similarity:.4f}'


def _clusters(path: Path, embedding: Embedding, num_clusters: int) -> str:
    found = embedding.clusters(num_clusters)
    columns = (embedding.paths, found.label.tolist(), found.similarity.tolist())
    rows = ((name, label, f'{value:.4f}') for name, label, value in zip(*columns, strict=True))
    write_table(path, ['path', 'cluster', 'similarity'], rows)
    sizes = found.label.bincount()
    return f'{num_clusters} clusters of {int(sizes.min()):,} to {int(sizes.max()):,} images'


def _duplicates(path: Path, embedding: Embedding, threshold: float) -> str:
    found = embedding.duplicates(threshold)
    rows = (
        (f'{similarity:.4f}', embedding.paths[one], embedding.paths[other])
        for (one, other), similarity in zip(*(each.tolist() for each in found), strict=True)
    )
    write_table(path, ['similarity', 'first', 'second'], rows)
    return f'{len(found.rows):,} pairs of a similarity of at least {threshold}'


def _matches(path: Path, embedding: Embedding, query: Embedding, k: int) -> Iterator[str]:
    found = embedding.search(query.features, min(k, len(embedding)))
    rows = list(_ranked(query.paths, embedding, found))
    write_table(path, ['query', 'rank', 'path', 'similarity'], rows)
    yield f'{path}  the nearest images of each query'
    for name, rank, match, similarity in rows:
        yield from [name] * (rank == 1)
        yield f'  {similarity}  {match}'
