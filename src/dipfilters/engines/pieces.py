"""Products on a graphics card whose memory may run out: in smaller pieces then."""

from __future__ import annotations

import contextlib

import torch
from jaxtyping import Float
from torch import Tensor

from dipfilters.engines import cuda
from dipfilters.engines.recipe import Recipe

_ENTRIES = (2**24, 2**22, 2**20, 2**18)  # of one plane of a batch; six such are held at a time


def product(
    recipe: Recipe, padded: Float[Tensor, "C h w"], columns: Float[Tensor, "N m"]
) -> Float[Tensor, "N m"]:
    """K times columns by :func:`dipfilters.engines.cuda.product`, a quarter at a time where memory runs out.

    Raises:
        torch.OutOfMemoryError: Not even the smallest pieces fit.
    """
    for entries in _ENTRIES[:-1]:
        with contextlib.suppress(torch.OutOfMemoryError):
            return cuda.product(recipe, padded, columns, batch_entries=entries)
        torch.cuda.empty_cache()
    return cuda.product(recipe, padded, columns, batch_entries=_ENTRIES[-1])
