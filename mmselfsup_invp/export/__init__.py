from ..compat import require_host

require_host()

from .exporting import Export, export_backbone
from .targets import TARGETS

__all__ = ['TARGETS', 'Export', 'export_backbone']
