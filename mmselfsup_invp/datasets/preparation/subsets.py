"""Subsets of ImageNet for semi-supervised learning."""

from pathlib import Path

from .data_set import Contents, Sample
from .lists import parse_line
from .single_label import class_sizes, split_by_class
from .verify import brief

#: The lists that SimCLR published, which InterCLR and most later papers use.
SIMCLR_LISTS = 'https://raw.githubusercontent.com/google-research/simclr/master/imagenet_subsets/'


def read_subset(
    root: Path, percent: int, subset_list: Path | None = None, seed: int = 0
) -> Contents:
    """Choose images of ImageNet's training list.

    By a list, they are in its order. At random, ``ceil(percent / 100 * n_c)`` of the ``n_c`` images
    of each class are drawn, uniformly and without replacement, as InvP's code does (which sets no
    seed), and are in the order of the training list.

    Args:
        root (Path): Folder of ImageNet, prepared.
        percent (int): 1 or 10.
        subset_list (Path | None): File of image names ``n01440764_10026.JPEG``, one a line, as
            SimCLR published for 1 and 10 %. Default: None, at random.
        seed (int): Seed of the draw. Default: 0.

    Raises:
        FileNotFoundError: If ImageNet is not prepared, or the list is not there.
        ValueError: If the list names images twice, or images that the training list has not.
    """
    train = root / 'meta' / 'train.txt'
    if not train.is_file():
        raise FileNotFoundError(
            f'{train} is not there. Prepare ImageNet first: python tools/prepare_data.py imagenet'
        )
    samples = [parse_line(line) for line in train.open()]
    if subset_list is None:
        take = {label: -(-percent * size // 100) for label, size in class_sizes(samples).items()}
        chosen, _ = split_by_class(samples, take, seed)
        facts: dict[str, object] = dict(source='random', seed=seed)
    else:
        chosen = _listed(samples, subset_list)
        facts = dict(source=subset_list.name, seed=None)
    return Contents(dict(train=chosen), facts=dict(facts, count=len(chosen)))


def _listed(samples: list[Sample], subset_list: Path) -> list[Sample]:
    if not subset_list.is_file():
        raise FileNotFoundError(
            f'{subset_list} is not there. SimCLR published 1percent.txt and 10percent.txt at '
            f'{SIMCLR_LISTS} (tensorflow_datasets has them as imagenet2012_subset). Without '
            '--subset-list images are drawn at random.'
        )
    names = subset_list.read_text().split()
    known = {path.rsplit('/', 1)[-1]: (path, label) for path, label in samples}
    unknown = [name for name in names if name not in known]
    if unknown or not names or len(set(names)) < len(names):
        twice = len(names) - len(set(names))
        raise ValueError(
            f'{subset_list} lists {len(names):,} images, {twice:,} of them more than once and '
            f'{len(unknown):,} that are not in meta/train.txt. Lines are such as '
            f"'n01440764_10026.JPEG'.\n{brief(unknown)}".rstrip()
        )
    return [known[name] for name in names]
