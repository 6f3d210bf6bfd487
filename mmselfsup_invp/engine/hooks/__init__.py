from .backbone_format_hook import BackboneFormatHook
from .check_backbone_hook import CheckBackboneHook
from .checkpoint_hook import CheckpointHook
from .deferred_info_hook import DeferredInfoHook
from .epoch_seed_hook import EpochSeedHook
from .knn_eval_hook import KNNEvalHook
from .odc_reweight_hook import ODCReweightHook
from .online_cluster_hook import OnlineClusterHook
from .propagation_memory_hook import PropagationMemoryHook
from .run_health_hook import RunHealthHook
from .self_label_hook import SelfLabelHook

__all__ = [
    'BackboneFormatHook',
    'CheckBackboneHook',
    'CheckpointHook',
    'DeferredInfoHook',
    'EpochSeedHook',
    'KNNEvalHook',
    'ODCReweightHook',
    'OnlineClusterHook',
    'PropagationMemoryHook',
    'RunHealthHook',
    'SelfLabelHook',
]
