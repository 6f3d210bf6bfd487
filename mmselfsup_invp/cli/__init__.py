"""What the command lines in tools/ share; nothing else in the package imports it."""

from ..compat import require_host

require_host()
