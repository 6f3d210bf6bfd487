"""The constants of the shipped configs, written out from the papers and the official codes.

A constant is the value that a run uses: that of the config or, where the config omits it, the
default of the component. Sources: InvP (arXiv:2010.11694) and its code, InterCLR (arXiv:2008.11702)
and MMSelfSup 0.x, SeLa (arXiv:1911.05371) and its code. Each table names the values of the method;
each config adds only what its own source changes.
"""

from typing import Any

Recipe = dict[str, Any]
SGD: Recipe = {
    'optim_wrapper.optimizer.type': 'SGD',
    'optim_wrapper.optimizer.momentum': 0.9,
    'optim_wrapper.optimizer.weight_decay': 1e-4,
}


# ---- InvP ----

INVP: Recipe = {
    **SGD,
    'model.head.positive': 'propagate',
    'model.head.hops': 3,
    'model.head.propagation': 'set',
    'model.head.lambda_inv': 0.6,
    'model.head.loss.temperature': 0.07,
    'model.head.loss.num_background': 4096,
    'model.head.loss.num_hard': 50,
    'model.head.loss.hard_pos': 'hard',
    'model.head.loss.hard_neg': True,
    'model.head.loss.background': 'exact',
    'model.head.loss.instance_background': 'exact',
    'model.head.loss.exclusive': True,
    'model.head.loss.eps': 0,
    'model.memory.feat_dim': 128,
    'model.memory.num_neighbours': 4,
    'model.memory.momentum': 0.5,
    'model.memory.init': 'unit',
    'model.memory.update': 'iteration',
    'model.neck.out_channels': 128,
    'default_hooks.memory.ramp': 'binary',
    'default_hooks.memory.ramp_epochs': 30,
    'default_hooks.memory.refresh': 'iteration',
    'default_hooks.memory.initial_graph': 'empty',
    'optim_wrapper.optimizer.lr': 0.03,
    'train_dataloader.batch_size': 128,
    'train_cfg.max_epochs': 800,
    'param_scheduler.0.eta_min': None,  # MMEngine's default, zero
}
MLP: Recipe = {'model.neck.hid_channels': 2048, 'model.head.loss.temperature': 0.2}
CIFAR: Recipe = {
    'model.neck.hid_channels': 512,
    'model.head.loss.temperature': 0.2,
    'model.head.loss.num_hard': 20,
    'optim_wrapper.optimizer.weight_decay': 5e-4,
    'model.backbone.zero_init_residual': False,
}
OFFICIAL: Recipe = {
    'model.head.propagation': 'concat',
    'model.head.loss.background': 'official',
    'model.head.loss.instance_background': 'topm',
    'model.head.loss.eps': 1e-7,
    'model.memory.init': 'uniform',
}
QUEUE: Recipe = {
    'model.encoder_momentum': 0.999,
    'model.memory.type': 'PropagationQueue',
    'model.memory.length': 65536,
    'model.memory.momentum': None,  # a queue has none
    'model.memory.update': None,
    'train_dataloader.batch_size': 32,
}
STUDY: Recipe = {'train_cfg.max_epochs': 200}
INVP_CONFIGS: dict[str, Recipe] = {
    'invp_resnet50_1xb128-coslr-800e_in1k': {},
    'invp_resnet50_1xb128-noblur-coslr-800e_in1k': {},
    'invp_resnet50_8xb128-coslr-800e_in1k': {'optim_wrapper.optimizer.lr': 0.24},
    'invp_resnet50-mlp_1xb128-coslr-800e_in1k': MLP,
    'invp_resnet50-mlp_8xb128-coslr-800e_in1k': MLP | {'optim_wrapper.optimizer.lr': 0.24},
    'invp_resnet50-mlp_1xb128-coslr-200e_custom': MLP | STUDY,
    'invp-official_resnet50-mlp_1xb128-coslr-800e_in1k': MLP | OFFICIAL,
    'momentum-invp_resnet50-mlp_8xb32-coslr-200e_in1k': MLP | STUDY | QUEUE,
    'invp_resnet50_1xb128-coslr-200e_in1k': STUDY,
    'invp-knn_resnet50_1xb128-coslr-200e_in1k': STUDY
    | {'model.head.positive': 'knn', 'model.head.knn_k': 50},
    'invp-easy-pos_resnet50_1xb128-coslr-200e_in1k': STUDY | {'model.head.loss.hard_pos': 'easy'},
    'invp-all-pos_resnet50_1xb128-coslr-200e_in1k': STUDY | {'model.head.loss.hard_pos': 'all'},
    'invp-all-neg_resnet50_1xb128-coslr-200e_in1k': STUDY | {'model.head.loss.hard_neg': False},
    'invp-ins-only_resnet50_1xb128-coslr-200e_in1k': STUDY | {'model.head.lambda_inv': 0},
    'invp_resnet18_1xb128-coslr-800e_cifar10': CIFAR,
    'invp_resnet18_1xb128-coslr-800e_cifar100': CIFAR | {'model.head.hops': 4},
    'invp_resnet18_1xb128-coslr-800e_svhn': CIFAR,
    'invp-batchaug_resnet18_1xb128-coslr-800e_cifar10': CIFAR,
    'invp-official_resnet18_1xb128-coslr-800e_cifar10': CIFAR | OFFICIAL,
    'momentum-invp_resnet18_1xb128-coslr-200e_cifar10': CIFAR
    | STUDY
    | {'model.encoder_momentum': 0.99, 'model.memory.momentum': 0},
    'invp-interclr_resnet18_1xb128-coslr-800e_cifar10': CIFAR
    | {
        'model.branch_weight': 0.25,
        'model.branch.loss.margin': -0.5,
        'model.branch.loss.temperature': 0.2,
        'model.branch.memory.momentum': 0.5,
        'model.branch.negatives': 'semi_hard',
        'model.branch.pool_ratio': 0.1,
    },
}


# ---- soft propagation: our values ----

SOFT: Recipe = {
    **SGD,
    'model.encoder_momentum': 0.99,
    'model.key_splits': 1,
    'model.head.temperature': 0.07,
    'model.head.key_temperature': 0.05,
    'model.head.instance_weight': 0.5,
    'model.head.propagation': 0.5,
    'model.head.hops': 2,
    'model.head.branches': 5,
    'model.head.restart': 0.5,
    'model.head.edges': 'all',
    'model.head.trust': 0.1,
    'model.head.num_target': 256,
    'model.head.num_background': 4096,
    'model.memory.num_neighbours': 20,
    'model.memory.momentum': 0,
    'model.neck.out_channels': 128,
    'default_hooks.memory.ramp': 'binary',
    'default_hooks.memory.ramp_epochs': 30,
    'default_hooks.memory.mutual_share': None,
    'optim_wrapper.optimizer.lr': 0.03,
    'train_cfg.max_epochs': 200,
}
SOFT_CIFAR: Recipe = {
    'model.key_splits': 8,
    'model.neck.hid_channels': None,
    'optim_wrapper.optimizer.lr': 0.06,
    'optim_wrapper.optimizer.weight_decay': 5e-4,
    'default_hooks.memory.ramp_epochs': 20,
    'train_dataloader.batch_size': 256,
}

SOFT_CONFIGS: dict[str, Recipe] = {
    'soft-invp_resnet18_1xb256-coslr-200e_cifar10': SOFT_CIFAR,
    'soft-invp-graph-off_resnet18_1xb256-coslr-200e_cifar10': SOFT_CIFAR
    | {'model.head.propagation': 0},
    'soft-invp_resnet50-mlp_8xb32-coslr-200e_in1k': QUEUE | {'model.neck.hid_channels': 2048},
    'soft-invp_resnet50_1xb128-coslr-200e_custom': {'model.key_splits': 4},
}

# ---- InterCLR ----

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


# ---- SeLa ----

SELA: Recipe = {
    **SGD,
    'model.head.num_classes': 3000,
    'model.head.num_heads': 10,
    'model.memory.num_classes': 3000,
    'model.memory.num_heads': 10,
    'default_hooks.self_label.num_events': 100,
    'default_hooks.self_label.spacing': 'power',
    'default_hooks.self_label.heads': 'all',
    'default_hooks.self_label.lambd': 25,
    'default_hooks.self_label.relabel_mode': 'train',
    'default_hooks.self_label.balanced': False,
    'optim_wrapper.optimizer.lr': 0.08,
    'optim_wrapper.optimizer.weight_decay': 1e-5,
    'param_scheduler.0.milestones': [150, 300, 350],
    'param_scheduler.0.gamma': 0.1,
    'train_dataloader.batch_size': 256,
    'train_cfg.max_epochs': 400,
    'randomness.seed': 42,
}
SELA_CIFAR: Recipe = {
    'model.head.num_classes': 128,
    'model.memory.num_classes': 128,
    'default_hooks.self_label.num_events': 400,
    'default_hooks.self_label.spacing': 'linear',
    'default_hooks.self_label.heads': 'rotate',
    'default_hooks.self_label.lambd': 10,
    'optim_wrapper.optimizer.lr': 0.03,
    'optim_wrapper.optimizer.weight_decay': 5e-4,
    'param_scheduler.0.milestones': [240, 320],
    'train_dataloader.batch_size': 128,
    'randomness.seed': 2,
}
SELA_CONFIGS: dict[str, Recipe] = {
    'sela_alexnet_1xb256-steplr-400e_in1k': {
        'model.neck.hid_channels': (4096, 4096),
        'model.neck.dropout': 0.5,
    },
    'sela_resnet50_1xb256-steplr-400e_in1k': {},
    'sela_resnet50_8xb32-steplr-400e_in1k': {'train_dataloader.batch_size': 32},
    'sela_alexnet_1xb128-steplr-400e_cifar10': SELA_CIFAR,
    'sela_resnet18_1xb128-steplr-400e_cifar10': SELA_CIFAR,
}


# ---- ODC ----

ODC: Recipe = {
    **SGD,
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
    'param_scheduler.0.milestones': [400],
    'param_scheduler.0.gamma': 0.4,
    'train_dataloader.batch_size': 64,
    'train_cfg.max_epochs': 440,
}
METHODS: list[tuple[str, Recipe, dict[str, Recipe]]] = [
    ('invp', INVP, INVP_CONFIGS),
    ('invp', SOFT, SOFT_CONFIGS),
    ('interclr', INTERCLR, INTERCLR_CONFIGS),
    ('sela', SELA, SELA_CONFIGS),
    ('odc', ODC, {'odc_resnet50_8xb64-steplr-440e_in1k': {}}),
]
RECIPES: dict[str, Recipe] = {
    f'{folder}/{name}': recipe | changes
    for folder, recipe, configs in METHODS
    for name, changes in configs.items()
}
