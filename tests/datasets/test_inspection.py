import shutil
from pathlib import Path

import pytest
from PIL import Image

from mmselfsup_invp.datasets.inspection import (
    find_duplicates,
    inspect_images,
    median_shorter_side,
    spread_out,
)

from .. import toy


@pytest.fixture
def paths(tmp_path):
    """Twelve images of 16 pixels, one of 40 x 30 that lies on its side, and a broken one."""
    folder = toy.image_folder(tmp_path / 'images', images=12) / 'train'
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (40, 30)).save(folder / 'phone.jpg', exif=exif)
    (folder / 'z.png').write_bytes((folder / '000.png').read_bytes()[:100])
    return sorted(map(str, folder.iterdir()))


def test_what_training_would_meet_is_found(paths):
    found = inspect_images(paths)
    assert (found.num_images, found.num_checked, found.rotated) == (14, 14, 1)
    assert sorted(found.shorter_sides) == [16] * 12 + [30]
    (message,) = found.unreadable
    assert 'Cannot read the image' in message and 'z.png' in message
    assert found.duplicates == []


def test_duplicates_are_found_by_their_content(paths, tmp_path):
    copy = tmp_path / 'copy.png'
    shutil.copy(paths[3], copy)
    assert inspect_images([*paths, str(copy)]).duplicates == [(str(copy), paths[3])]
    assert find_duplicates([paths[3], str(copy)], deadline=0) == []


def test_the_time_limits_how_many_are_decoded(paths):
    found = inspect_images(paths * 20, seconds=0)
    assert found.num_images == 280 and found.num_checked == 64


def test_the_median_comes_from_the_headers(paths):
    assert median_shorter_side(paths) == 16
    Path(paths[-1]).write_text('no image')
    with pytest.raises(ValueError, match='None of the files can be read as an image'):
        median_shorter_side(paths[-1:])


@pytest.mark.parametrize('length', [1, 64, 100, 1000])
def test_the_first_are_spread_over_all(length):
    items = list(range(length))
    spread = spread_out(items)
    assert sorted(spread) == items
    first = sorted([0, *spread[:64], length])
    gaps = [high - low for low, high in zip(first, first[1:], strict=False)]
    assert max(gaps) <= length // 64 + length // 10 + 1
