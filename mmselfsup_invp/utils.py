"""The place where MMEngine's hub (``get_model``) looks for ``register_all_modules``."""

from . import register_all_modules

__all__ = ['register_all_modules']
