from ..compat import require_host

require_host()

from .embedding import Embedding
from .encoder import Encoder
from .extraction import embed

__all__ = ['Embedding', 'Encoder', 'embed']
