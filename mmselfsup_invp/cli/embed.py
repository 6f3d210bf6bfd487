"""Features of a folder of images as ``tools/embed.py`` writes them."""

import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from ..embedding import Embedding, embed
from ..embedding.tables import require_package, write_index, write_parquet, write_table
from ..evaluation import Encoder

Lines = Iterator[str]


def run(args: Namespace) -> None:
    """Write what the command line asks for, and print each file with what it holds.

    Args:
        args (Namespace): Arguments of ``tools/embed.py``.

    Raises:
        FileNotFoundError: If the checkpoint, the folder or a query is missing.
        ModuleNotFoundError: If an optional package is missing.
        ValueError: If an argument does not fit the images.
    """
    # Before the images are read, which may take hours.
    if args.parquet:
        require_package('pyarrow', '--parquet')
    if args.index:
        require_package('faiss', '--index')
    start = time.perf_counter()
    encoder = Encoder(args.checkpoint, args.size, args.device)
    queries = [] if args.query is None else [*args.query]
    query = embed(encoder, queries, broken='raise') if queries else None
    embedding = embed(
        encoder,
        args.folder,
        args.out,
        batch_size=args.batch_size,
        num_workers=args.workers,
        broken=args.broken,
    )
    for line in _features(embedding, args):
        print(line)
    for name, write in (
        ('neighbours', _neighbours),
        ('clusters', _clusters),
        ('duplicates', _duplicates),
    ):
        value = getattr(args, name)
        if value is not None:
            path = args.out / f'{name}.csv'
            print(f'{path}  {write(path, embedding, value)}', flush=True)
    if query is not None:
        for line in _matches(args.out / 'matches.csv', embedding, query, args.matches):
            print(line)
    print(f'{time.perf_counter() - start:.1f} s in all')


def _features(embedding: Embedding, args: Namespace) -> Lines:
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
        write_parquet(args.out / 'features.parquet', embedding.features, embedding.paths)
        yield f'{args.out / "features.parquet"}  paths and features'
    if args.index:
        write_index(args.out / 'index.faiss', embedding.features)
        yield f'{args.out / "index.faiss"}  IndexFlatIP of faiss'


def _neighbours(path: Path, embedding: Embedding, k: int) -> str:
    k = min(k, len(embedding) - 1)
    found = embedding.neighbours(k)
    names = embedding.paths
    rows = (
        (names[row], rank, names[index], f'{similarity:.4f}')
        for row in range(len(embedding))
        for rank, (index, similarity) in enumerate(
            zip(found.index[row].tolist(), found.similarity[row].tolist(), strict=True), 1
        )
    )
    write_table(path, ['path', 'rank', 'neighbour', 'similarity'], rows)
    return f'the {k} nearest images of each'


def _clusters(path: Path, embedding: Embedding, num_clusters: int) -> str:
    found = embedding.clusters(num_clusters)
    columns = (embedding.paths, found.label.tolist(), found.similarity.tolist())
    rows = ((name, label, f'{value:.4f}') for name, label, value in zip(*columns, strict=True))
    write_table(path, ['path', 'cluster', 'similarity'], rows)
    sizes = found.label.bincount()
    return f'{num_clusters} clusters of {int(sizes.min()):,} to {int(sizes.max()):,} images'


def _duplicates(path: Path, embedding: Embedding, threshold: float) -> str:
    found = embedding.duplicates(threshold)
    names = embedding.paths
    rows = (
        (f'{similarity:.4f}', names[one], names[other])
        for (one, other), similarity in zip(
            found.rows.tolist(), found.similarity.tolist(), strict=True
        )
    )
    write_table(path, ['similarity', 'first', 'second'], rows)
    return f'{len(found.rows):,} pairs of a similarity of at least {threshold}'


def _matches(path: Path, embedding: Embedding, query: Embedding, k: int) -> Lines:
    found = embedding.search(query.features, min(k, len(embedding)))
    rows = [
        (name, rank, embedding.paths[index], f'{similarity:.4f}')
        for name, indices, similarities in zip(
            query.paths, found.index.tolist(), found.similarity.tolist(), strict=True
        )
        for rank, (index, similarity) in enumerate(zip(indices, similarities, strict=True), 1)
    ]
    write_table(path, ['query', 'rank', 'path', 'similarity'], rows)
    yield f'{path}  the nearest images of {len(query)} queries'
    for name, rank, match, similarity in rows:
        yield from [name] * (rank == 1)
        yield f'  {similarity}  {match}'
