"""Checks of arguments against the data; options are checked by :mod:`mmselfsup_invp.options`.

The messages state the value, the valid values and the reason.
"""

from typing import TYPE_CHECKING

from torch import Tensor

from ..options import accepts

if TYPE_CHECKING:
    from .search.rows import BankRows


def require_range(name: str, value: int, low: int, high: int, why: str) -> None:
    """Raise ``ValueError`` unless ``value`` is an integer and ``low <= value <= high``.

    Example:
        >>> require_range('k', 9, 1, 5, 'a bank of 6 rows has 5 other rows')
        Traceback (most recent call last):
        ...
        ValueError: k = 9 is outside the valid range 1 to 5: a bank of 6 rows has 5 other rows.
    """
    if not accepts(int, value):
        raise ValueError(f'{name} = {value!r} must be an integer: {why}.')
    if not low <= value <= high:
        raise ValueError(f'{name} = {value} is outside the valid range {low} to {high}: {why}.')


def require_length(name: str, values: Tensor, length: int, what: str) -> None:
    """Raise ``ValueError`` unless ``values`` is a vector with one entry per ``what``.

    Example:
        >>> import torch
        >>> require_length('anchor', torch.tensor([4]), 2, 'query')
        Traceback (most recent call last):
        ...
        ValueError: anchor has the shape (1,) where (2,) is needed: one entry for each query.
    """
    if values.shape != (length,):
        raise ValueError(
            f'{name} has the shape {tuple(values.shape)} where ({length},) is needed: one entry '
            f'for each {what}.'
        )


def require_features(name: str, features: 'Tensor | BankRows', dim: int | None = None) -> None:
    """Raise ``ValueError`` unless ``features`` is a float matrix, with ``dim`` columns if given.

    Args:
        name (str): Name of the argument in the message.
        features (Tensor | BankRows): Shape and dtype are checked, not the values.
        dim (int, optional): Number of columns. Defaults to None, any.

    Example:
        >>> import torch
        >>> require_features('query', torch.zeros(2, 4), 3)
        Traceback (most recent call last):
        ...
        ValueError: query has 4 dimensions where 3 are needed: queries and bank must come from \
the same neck (out_channels = feat_dim).
    """
    if features.dim() != 2 or not features.is_floating_point():
        raise ValueError(
            f'{name} must be a floating point matrix of shape (rows, dimensions), '
            f'found {features.dtype} of shape {tuple(features.shape)}.'
        )
    if dim is not None and features.size(1) != dim:
        raise ValueError(
            f'{name} has {features.size(1)} dimensions where {dim} are needed: '
            'queries and bank must come from the same neck (out_channels = feat_dim).'
        )
