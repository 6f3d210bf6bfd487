# VOC 2007 in its official layout, multi-label.
#   python tools/prepare_data.py voc2007
_base_ = 'views_224.py'

data_root = 'data/VOCdevkit/VOC2007/'
num_classes = 20

images = dict(
    type='mmcls.VOC',
    data_root=data_root,
    data_prefix=dict(img_path='JPEGImages', ann_path='Annotations'),
)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        image_set_path='ImageSets/Main/trainval.txt',
        pipeline=_base_.train_pipeline,
        **images,
    )
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        image_set_path='ImageSets/Main/test.txt',
        pipeline=_base_.test_pipeline,
        **images,
    )
)
