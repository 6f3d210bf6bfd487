from .graph_memory import GraphMemory
from .propagation_memory import PropagationMemory
from .propagation_queue import PropagationQueue

__all__ = ['GraphMemory', 'PropagationMemory', 'PropagationQueue']
