import re

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, ClassBalancedDataset, ConcatDataset, RepeatDataset

from mmselfsup_invp.datasets import image_labels, num_images

from .. import toy


class Listed(BaseDataset):
    """A data set of images with these labels; None for an image without a label."""

    METAINFO = dict(classes=('a', 'b', 'c'))

    def __init__(self, labels, **options):
        self.labels = labels
        super().__init__(serialize_data=False, **options)

    def load_data_list(self):
        return [
            dict(img_path=f'{i}.png') | ({} if label is None else dict(gt_label=label))
            for i, label in enumerate(self.labels)
        ]

    def get_cat_ids(self, index):
        return [self.get_data_info(index)['gt_label']]


LABELS = [2, 0, 0, 0, 0, 0, 0, 1, 0]


def test_without_a_wrapper():
    assert num_images(Listed(LABELS)) == 9
    found = image_labels(Listed(LABELS))
    assert found.dtype == torch.int64 and found.tolist() == LABELS


@pytest.mark.parametrize(
    ('wrapper', 'options'),
    [(RepeatDataset, dict(times=3)), (ClassBalancedDataset, dict(oversample_thr=0.9))],
)
def test_repetitions_by_a_wrapper_are_not_counted(wrapper, options):
    dataset = wrapper(Listed(LABELS), **options)
    assert len(dataset) > 9
    assert num_images(dataset) == 9
    assert image_labels(dataset).tolist() == LABELS
    # The samples carry the ids of the wrapped data set.
    assert {dataset[i]['sample_idx'] for i in range(len(dataset))} == set(range(9))


@pytest.mark.parametrize('labels', [[None, None], [-1, -1], [0, -1], [1, None]])
def test_labels_are_none_unless_every_image_has_one(labels):
    assert image_labels(Listed(labels)) is None


@pytest.mark.parametrize(
    'labels',
    [[[0, 2], [1]], [[0], [1]], [0, [1]], [dict(colour=0), dict(colour=1)], ['cat', 'dog']],
)
def test_labels_are_none_unless_each_is_one_integer(labels):
    assert image_labels(Listed(labels)) is None


@pytest.mark.parametrize('form', [int, np.int64, np.array, torch.tensor])
def test_a_label_may_have_any_integer_type(form):
    found = image_labels(Listed([form(label) for label in LABELS]))
    assert found.dtype == torch.int64 and found.tolist() == LABELS


@pytest.mark.parametrize('function', [num_images, image_labels])
def test_concatenated_data_sets_are_refused(function):
    joined = ConcatDataset([Listed(LABELS), Listed(LABELS)])
    with pytest.raises(ValueError, match='numbers the images of each part from 0.*annotation file'):
        function(joined)


def test_an_empty_data_set_is_refused():
    with pytest.raises(ValueError, match='Listed holds no image.*data_root, ann_file'):
        num_images(Listed([]))


@pytest.mark.parametrize('serialize_data', [True, False])
@pytest.mark.parametrize(
    ('type', 'content'),
    [
        ('mmcls.CustomDataset', ''),
        ('mmcls.CustomDataset', ' \n\n'),
        ('mmcls.ImageNet', ''),
        ('mmcls.MultiLabelDataset', '{"metainfo": {}, "data_list": []}'),
        ('ImageList', ''),
        ('ImageList', '\n'),
        ('FewLabels', ''),
    ],
)
def test_an_empty_annotation_file_is_named(images, tmp_path, type, content, serialize_data):
    suffix = 'json' if content.startswith('{') else 'txt'
    (tmp_path / f'none.{suffix}').write_text(content)
    config = toy.loader(images, ann_file=str(tmp_path / f'none.{suffix}'))['dataset']
    config.update(type=type, serialize_data=serialize_data)
    if type == 'FewLabels':
        config['fraction'] = 0.5
    name = type.rpartition('.')[2]
    places = re.escape(f'({tmp_path}/none.{suffix}, {images}/train)')
    with pytest.raises(ValueError, match=rf'^The data set {name} holds no image\..*{places}'):
        num_images(toy.build_dataset(config))


def test_labels_of_an_image_list(images):
    labelled, bare = (
        toy.build_dataset(toy.loader(images, ann_file=f'meta/{name}.txt')['dataset'])
        for name in ('train', 'unlabelled')
    )
    assert num_images(labelled) == num_images(bare) == 24
    assert image_labels(labelled).tolist() == [0, 1, 2] * 8
    assert image_labels(bare) is None
