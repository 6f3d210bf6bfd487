from ..compat import require_host

require_host()

from .options import ReportOptions
from .report import write_report
from .walk import write_walks

__all__ = ['ReportOptions', 'write_report', 'write_walks']
