from ..compat import require_host

require_host()

from .report import write_report
from .source import Options

__all__ = ['Options', 'write_report']
