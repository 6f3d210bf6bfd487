"""SeLa (arXiv:1911.05371) and its code."""

from .common import SGD, Recipe

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
ALEXNET: Recipe = {
    'model.neck.hid_channels': (4096, 4096),
    'model.neck.dropout': 0.5,
    'model.neck.pool_size': 6,
    'model.head.init_cfg.std': 0.01,
}
RESNET: Recipe = {'model.backbone.zero_init_residual': False}
SELA_CONFIGS: dict[str, Recipe] = {
    'sela_alexnet_1xb256-steplr-400e_in1k': ALEXNET,
    'sela_resnet50_1xb256-steplr-400e_in1k': RESNET,
    'sela_resnet50_8xb32-steplr-400e_in1k': RESNET | {'train_dataloader.batch_size': 32},
    'sela_alexnet_1xb128-steplr-400e_cifar10': ALEXNET | SELA_CIFAR,
    'sela_resnet18_1xb128-steplr-400e_cifar10': RESNET | SELA_CIFAR,
}
