from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...compat.host import HOOKS
from ...evaluation import check_loaded, read_backbone
from ...evaluation.checkpoints import PREFIX
from .common import unwrap


@HOOKS.register_module()
class CheckBackboneHook(Hook):
    """Checks before training that a detector's backbone has all weights of its checkpoint.

    The checkpoint is that of the backbone's ``init_cfg``, if it is one of pre-training. A resumed
    run is not checked. See :func:`~mmselfsup_invp.evaluation.check_loaded` for the checks.

    Example:
        >>> default_hooks = dict(backbone=dict(type='mmselfsup.CheckBackboneHook'))
    """

    def before_train(self, runner: Runner) -> None:
        """Compare the weights unless the run is resumed."""
        weights = runner.cfg.model.backbone.get('init_cfg') or {}
        if runner.iter == 0 and weights.get('prefix') == PREFIX:
            check_loaded(unwrap(runner.model), read_backbone(weights['checkpoint']))
