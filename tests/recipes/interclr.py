"""InterCLR (arXiv:2008.11702) and MMSelfSup 0.x, for ODC (arXiv:2006.10645) too."""

from .common import SGD, Recipe

INTERCLR: Recipe = {
    **SGD,
    'model.intra_weight': 0.75,
    'model.head.loss.margin': 0,
    'model.head.loss.temperature': 0.1,
    'model.head.num_negatives': 16384,
    'model.branch.loss.kind': 'cosine',
    'model.branch.loss.margin': -0.5,
    'model.branch.loss.temperature': 0.1,
    'model.branch.negatives': 'semi_hard',
    'model.branch.num_negatives': 16384,
    'model.branch.pool_ratio': 0.1,
    'model.branch.exclude_self': False,
    'model.branch.memory.num_clusters': 10000,
    'model.branch.memory.momentum': 0.5,
    'model.branch.memory.metric': 'euclidean',
    'model.branch.memory.assigner': 'nearest',
    'model.branch.memory.feat_dim': 128,
    'model.neck.hid_channels': 2048,
    'model.neck.out_channels': 128,
    'default_hooks.clusters.centroid_interval': 10,
    'default_hooks.clusters.repair_interval': 10,
    'default_hooks.clusters.offline_interval': 0,
    'default_hooks.clusters.warmup_epochs': 0,
    'optim_wrapper.optimizer.lr': 0.03,
    'param_scheduler.0.eta_min': 3e-5,
    'train_dataloader.batch_size': 32,
    'train_cfg.max_epochs': 200,
}
SECTION_5_2: Recipe = {
    'model.intra_weight': 0.5,
    'model.head.num_negatives': 4096,
    'model.branch.num_negatives': 4096,
    'model.branch.negatives': 'random',
    'model.branch.loss.margin': 0,
    'train_cfg.max_epochs': 100,
}
SEMI_HARD: Recipe = SECTION_5_2 | {'model.branch.negatives': 'semi_hard'}
MOCO: Recipe = {
    'model.queue.length': 65536,
    'model.encoder_momentum': 0.999,
    'model.head.num_negatives': None,  # all keys of the queue
    'model.head.loss.temperature': 0.2,
    'model.branch.loss.temperature': 0.2,
    'model.branch.memory.momentum': 0,
    'param_scheduler.0.eta_min': None,
}
INTERCLR_CIFAR: Recipe = {
    'model.head.num_negatives': 4096,
    'model.branch.num_negatives': 4096,
    'model.branch.memory.num_clusters': 400,
    'model.backbone.zero_init_residual': False,
    'model.neck.hid_channels': 512,
    'optim_wrapper.optimizer.weight_decay': 5e-4,
    'train_dataloader.batch_size': 128,
}
INTERCLR_CONFIGS: dict[str, Recipe] = {
    'interclr-npid_resnet50-mlp_8xb32-coslr-200e_in1k': {},
    'interclr-npid_resnet50-mlp_8xb512-coslr-1000e_in1k': {
        'optim_wrapper.optimizer.type': 'LARS',
        'optim_wrapper.optimizer.lr': 4.8,
        'optim_wrapper.optimizer.weight_decay': 1e-6,
        'optim_wrapper.paramwise_cfg.custom_keys': {
            name: {'decay_mult': 0, 'lars_exclude': True} for name in ('bn', 'downsample.1', 'bias')
        },
        'param_scheduler.0.start_factor': 1e-4,
        'param_scheduler.0.convert_to_iter_based': True,
        'param_scheduler.0.eta_min': None,
        'param_scheduler.0.end': 10,
        'param_scheduler.1.eta_min': 4.8e-3,
        'train_dataloader.batch_size': 512,
        'train_cfg.max_epochs': 1000,
    },
    'interclr-npid-study-random_resnet50-mlp_8xb32-coslr-100e_in1k': SECTION_5_2,
    'interclr-npid-study-hard_resnet50-mlp_8xb32-coslr-100e_in1k': SECTION_5_2
    | {'model.branch.negatives': 'hard'},
    'interclr-npid-study-semi-hard_resnet50-mlp_8xb32-coslr-100e_in1k': SEMI_HARD,
    'interclr-npid-study-semi-easy_resnet50-mlp_8xb32-coslr-100e_in1k': SECTION_5_2
    | {'model.branch.negatives': 'semi_easy'},
    'interclr-npid-study-offline_resnet50-mlp_8xb32-coslr-100e_in1k': SECTION_5_2
    | {'default_hooks.clusters.offline_interval': 1},
    'interclr-npid-study-inter-margin_resnet50-mlp_8xb32-coslr-100e_in1k': SEMI_HARD
    | {'model.branch.loss.margin': -0.5},
    'interclr-npid-study-intra-margin_resnet50-mlp_8xb32-coslr-100e_in1k': SEMI_HARD
    | {'model.head.loss.margin': 0.35},
    'interclr-npid-study-weight_resnet50-mlp_8xb32-coslr-200e_in1k': SECTION_5_2
    | {'model.intra_weight': 0.75, 'train_cfg.max_epochs': 200},
    'interclr-moco_resnet50-mlp_8xb32-coslr-200e_in1k': MOCO,
    'interclr-npid_resnet18_1xb128-coslr-200e_cifar10': INTERCLR_CIFAR,
    'interclr-moco_resnet18_1xb128-coslr-200e_cifar10': INTERCLR_CIFAR
    | MOCO
    | {
        'model.queue.length': 4096,
        'model.encoder_momentum': 0.99,
        'param_scheduler.0.eta_min': 3e-5,
    },
}


ODC: Recipe = {
    **SGD,
    'model.neck.hid_channels': 512,
    'model.neck.out_channels': 256,
    'model.head.num_classes': 10000,
    'model.memory_bank.num_classes': 10000,
    'model.memory_bank.feat_dim': 256,
    'model.memory_bank.momentum': 0.5,
    'model.memory_bank.metric': 'dot',
    'default_hooks.clusters.centroid_interval': 10,
    'default_hooks.clusters.repair_interval': 10,
    'default_hooks.reweight.power': 0.5,
    'default_hooks.reweight.interval': 10,
    'optim_wrapper.optimizer.lr': 0.06,
    'optim_wrapper.optimizer.weight_decay': 1e-5,
    'optim_wrapper.paramwise_cfg.custom_keys': {'head': {'momentum': 0.0}},
    'param_scheduler.0.milestones': [400],
    'param_scheduler.0.gamma': 0.4,
    'train_dataloader.batch_size': 64,
    'train_cfg.max_epochs': 440,
}
