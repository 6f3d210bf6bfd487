"""Small benchmarks of each kind, and jobs that run them."""

from mmengine.config import Config

from mmselfsup_invp.evaluation.protocols import Benchmark, Job, evaluate


def loader(root, split, **dataset):
    pipeline = [dict(type='LoadImage'), dict(type='mmcls.PackClsInputs')]
    return dict(
        batch_size=12,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=split == 'train'),
        collate_fn=dict(type='mmselfsup_invp.default_collate'),
        dataset=dict(
            type='mmcls.CustomDataset',
            data_root=str(root),
            ann_file=f'meta/{split}.txt',
            data_prefix=dict(img_path=split),
            pipeline=pipeline,
            **dataset,
        ),
    )


PROBE = dict(
    type='LayerwiseProbe', backbone=dict(), num_classes=3, pool_sizes=(2, 2, 1), norm='train'
)
CLASSIFIER = dict(
    type='mmcls.ImageClassifier',
    backbone=dict(),
    neck=dict(type='mmcls.GlobalAveragePooling'),
    head=dict(
        type='mmcls.LinearClsHead',
        num_classes=3,
        in_channels=999,
        loss=dict(type='mmcls.CrossEntropyLoss'),
    ),
)


def training(root, model=PROBE, metric='layers/best', epochs=2):
    """A benchmark that trains."""
    return Config(
        dict(
            default_scope='mmselfsup',
            # The name that all configs of the host give it.
            visualizer=dict(type='SelfSupVisualizer', name='visualizer'),
            model=model,
            train_dataloader=loader(root, 'train'),
            val_dataloader=loader(root, 'test'),
            train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=1),
            val_cfg=dict(),
            val_evaluator=dict(type='LayerwiseMetric' if model is PROBE else 'mmcls.Accuracy'),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
            default_hooks=dict(
                checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1)
            ),
            benchmark=dict(
                name='toy', title='a toy', kind='training', metric=metric, data='toy',
                published={'a method': 50.0},
            ),
        )
    )  # fmt: skip


def on_features(root, kind, metric, pool_size=2, **options):
    """A benchmark on frozen features."""
    return Config(
        dict(
            default_scope='mmselfsup',
            num_classes=3,
            pool_size=pool_size,
            train_dataloader=loader(root, 'train'),
            test_dataloader=loader(root, 'test'),
            benchmark=dict(
                name='toy', title='a toy', kind=kind, metric=metric, data='toy', options=options
            ),
        )
    )


def knn(root, pool_size=2, **options):
    options = dict(k=5, temperature=0.1) | options
    return on_features(root, 'knn', 'k{k}_t{temperature}'.format(**options), pool_size, **options)


def make_job(config, backbone, out, **changes):
    return Job(Benchmark(**config.benchmark.to_dict()), config, backbone, out, **changes)


def run(config, backbone, out, **changes):
    job = make_job(config, backbone, out, **changes)
    return job, evaluate(job)
