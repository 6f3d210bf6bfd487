"""What the tests of the data preparation read back."""

import os

from mmcls.datasets import CustomDataset

from mmselfsup_invp.datasets.preparation import data_sets

from .. import layouts

tiny = layouts.data_set


def lines(root, file='meta/train.txt'):
    return (root / file).read_text().splitlines()


def read_lists(name, root):
    """(path, label) of each list as mmcls reads it; every image exists."""
    found = {}
    for item in data_sets()[name].lists:
        data_set = CustomDataset(
            data_root=str(root), ann_file=item.file, data_prefix=item.prefix, pipeline=[]
        )
        infos = [data_set.get_data_info(index) for index in range(len(data_set))]
        assert all(os.path.isfile(info['img_path']) for info in infos)
        found[item.splits[0]] = [(info['img_path'], info['gt_label']) for info in infos]
    return found
