from ..compat import require_host

require_host()

from .embedding import Embedding
from .extraction import embed

__all__ = ['Embedding', 'embed']
