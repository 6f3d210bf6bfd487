from .base import Target, Verification
from .detectron2 import Detectron2
from .openmmlab import MMDetection, MMSelfSup
from .state_dict import Timm, Torchvision

TARGETS: dict[str, Target] = {
    'torchvision': Torchvision(),
    'timm': Timm(),
    'detectron2': Detectron2(),
    'mmdet': MMDetection(),
    'mmselfsup': MMSelfSup(),
}

__all__ = ['TARGETS', 'Target', 'Verification']
