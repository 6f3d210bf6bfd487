"""Which images of a folder of classes are used."""

import numpy as np
import pytest

from mmselfsup_invp.evaluation.protocols.class_folders import ClassFolders

from ... import layouts


def test_the_only_image_of_a_class_is_for_training(tmp_path):
    root = layouts.custom(tmp_path, per_class=3)
    layouts.write_image(root / 'class 2' / '0.png', 2, 0)
    data = ClassFolders(root)
    assert np.bincount(data.label[data.train]).tolist() == [2, 2, 1]
    assert np.bincount(data.label[data.test]).tolist() == [1, 1]


def test_a_class_of_the_test_folder_alone_is_named(tmp_path):
    root = layouts.custom(tmp_path, splits=True)
    (root / 'test').rename(root / 'val')
    for number in range(2):
        layouts.write_image(root / 'val' / 'class 2' / f'{number}.png', 2, number)
    with pytest.raises(ValueError, match=r'val has classes without .*: class 2 \(2 images\)'):
        ClassFolders(root)


def test_ignored_images_change_no_result(tmp_path):
    root = layouts.custom(tmp_path)
    before = ClassFolders(root)
    layouts.write_image(root / 'class 0' / 'deeper' / '0.png', 0, 0)
    after = ClassFolders(root)
    assert (before.ignored, after.ignored) == ('', '1 (1 in class 0/deeper)')
    assert before.key == after.key and before.files == after.files
