"""Images in place of ImageNet's, for measuring how fast they are read."""

from pathlib import Path

import numpy as np
from PIL import Image

# Most images of ImageNet have about this size; with these patches and this noise a file has about
# as many bytes (110 KB) as one of ImageNet.
WIDTH, HEIGHT = 500, 375
PATCH, NOISE = 12, 28
# Different files; a longer list repeats them.
FILES = 512


def write_jpegs(root: Path, num: int) -> dict:
    """Write JPEG files and their list.

    Args:
        root (Path): Folder to create.
        num (int): Images of the list, each with a class of its own file.

    Returns:
        dict: Options of a data set that reads a list of images.
    """
    random = np.random.default_rng(0)
    (root / 'train').mkdir(parents=True)
    files = [f'{number:03d}.jpg' for number in range(min(FILES, num))]
    for name in files:
        patches = random.integers(256, size=(HEIGHT // PATCH, WIDTH // PATCH, 3), dtype=np.uint8)
        image = np.asarray(Image.fromarray(patches).resize((WIDTH, HEIGHT), Image.BICUBIC))
        noise = random.integers(-NOISE, NOISE + 1, image.shape)
        pixels = (image + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / 'train' / name, quality=90)
    lines = [f'{files[number % len(files)]} {number % len(files)}\n' for number in range(num)]
    (root / 'train.txt').write_text(''.join(lines))
    return dict(data_root=str(root), ann_file='train.txt', data_prefix=dict(img_path='train'))
