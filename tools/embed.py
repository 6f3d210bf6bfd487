"""Write the features of a folder of images by the backbone of a checkpoint.

python tools/embed.py work_dirs/invp/epoch_200.pth photos --out photos_embedding
python tools/embed.py work_dirs/invp/epoch_200.pth photos --out photos_embedding --query cat.jpg
python tools/embed.py work_dirs/invp/epoch_200.pth photos --out photos_embedding \\
    --neighbours 10 --clusters 50 --duplicates 0.98

The folder of the results holds features.npy, float32, unit rows, and images.csv, the path of each
row. A second call with the same checkpoint, images and folder reads them and adds what it asks for.
"""

from pathlib import Path

from command_line import create_parser, require_packages


def main():
    parser = create_parser(__doc__)
    parser.add_argument('checkpoint', help='epoch_*.pth of a pre-training run')
    parser.add_argument('folder', help='folder of images, searched recursively')
    parser.add_argument('--out', type=Path, required=True, help='folder of the results')
    wanted = parser.add_argument_group('results')
    wanted.add_argument(
        '--neighbours', type=int, metavar='K', help='write the K nearest images of each image'
    )
    wanted.add_argument('--clusters', type=int, metavar='C', help='cluster the images by k-means')
    wanted.add_argument(
        '--duplicates',
        type=float,
        metavar='S',
        help='write all pairs of images with a cosine similarity of at least S, such as 0.98',
    )
    wanted.add_argument(
        '--query', nargs='+', metavar='IMAGE', help='find the images nearest to these'
    )
    wanted.add_argument(
        '--matches', type=int, default=10, help='images to find for a query (default: %(default)s)'
    )
    wanted.add_argument('--parquet', action='store_true', help='write features.parquet (pyarrow)')
    wanted.add_argument('--index', action='store_true', help='write index.faiss (faiss)')
    how = parser.add_argument_group('computation')
    how.add_argument(
        '--size', type=int, help='edge of the view in pixels (default: as in training)'
    )
    how.add_argument('--batch-size', type=int, default=64, help='(default: %(default)s)')
    how.add_argument(
        '--workers', type=int, help='processes that read images (default: one a core, at most 8)'
    )
    how.add_argument('--device', help='cpu or cuda (default: cuda if there is a GPU)')
    how.add_argument(
        '--broken',
        choices=['skip', 'raise'],
        default='skip',
        help='list unreadable images and skip them, or stop (default: %(default)s)',
    )
    args = parser.parse_args()

    require_packages(args)
    # Imported late, because importing PyTorch would delay --help.
    from mmselfsup_invp.cli.embed import run
    from mmselfsup_invp.cli.errors import plain_errors
    from mmselfsup_invp.visualization.options import require_device

    with plain_errors(args.debug):
        if args.device is not None:
            require_device(args.device)
        run(args)


if __name__ == '__main__':
    main()
