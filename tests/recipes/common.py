from typing import Any

Recipe = dict[str, Any]
SGD: Recipe = {
    'optim_wrapper.optimizer.type': 'SGD',
    'optim_wrapper.optimizer.momentum': 0.9,
    'optim_wrapper.optimizer.weight_decay': 1e-4,
}
