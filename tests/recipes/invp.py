"""InvP (arXiv:2010.11694) and its code; the soft propagation has our values."""

from .common import SGD, Recipe

INVP: Recipe = {
    **SGD,
    'model.head.positive': 'propagate',
    'model.head.hops': 3,
    'model.head.propagation': 'set',
    'model.head.lambda_inv': 0.6,
    'model.head.lambda_ins': 1,
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
    'multi-view-invp_resnet18_1xb32-coslr-50e_cifar10': CIFAR
    | {
        'model.view_weight': 1,
        'model.view_loss': dict(type='ViewContrastLoss', temperature=0.07),
        'model.neck.hid_channels': None,
        'model.head.lambda_ins': 0,
        'model.head.loss.temperature': 0.07,
        'default_hooks.memory.ramp_epochs': 25,
        'optim_wrapper.optimizer.lr': 0.06,
        'param_scheduler.0.start_factor': 0.01,
        'param_scheduler.0.end': 2,
        'train_dataloader.batch_size': 32,
        'train_cfg.max_epochs': 50,
    },
    'invp-interclr_resnet18_1xb128-coslr-800e_cifar10': CIFAR
    | {
        'model.branch_weight': 0.25,
        'model.branch.loss.margin': -0.5,
        'model.branch.loss.temperature': 0.2,
        'model.branch.memory.momentum': 0.5,
        'model.branch.memory.num_clusters': 400,
        'model.branch.negatives': 'semi_hard',
        'model.branch.num_negatives': 4096,
        'model.branch.pool_ratio': 0.1,
    },
}


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
    'param_scheduler.0.start_factor': 0.01,
    'param_scheduler.0.end': 5,
    'train_dataloader.batch_size': 256,
}

SOFT_CONFIGS: dict[str, Recipe] = {
    'soft-invp_resnet18_1xb256-coslr-200e_cifar10': SOFT_CIFAR,
    'soft-invp-graph-off_resnet18_1xb256-coslr-200e_cifar10': SOFT_CIFAR
    | {'model.head.propagation': 0},
    'soft-invp_resnet50-mlp_8xb32-coslr-200e_in1k': QUEUE | {'model.neck.hid_channels': 2048},
    'soft-invp_resnet50_1xb128-coslr-200e_custom': {'model.key_splits': 4},
}
