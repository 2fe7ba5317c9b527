"""A kernel over a picture as a linear filter: each pixel becomes a weighted average of all pixels."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dipfilters.images import PictureError
from dipfilters.kernels import Kernel
from dipfilters.patches import Padding, extract_patches

_TILE_ENTRIES = 2**18  # 2 MB of float64 a tile: its temporaries stay in the processor's cache
_KEPT_ENTRIES = 2**26  # a kernel matrix up to 537 MB (90×90 pixels) is kept between products


class MemoryBudgetError(MemoryError):
    """A dense matrix larger than the stated budget; the message gives its size and what to call instead."""


class SymmetricForm(NamedTuple):
    """W = diag(d^(−1/2)) A diag(d^(1/2)) with a symmetric A, so that W has the eigenvalues of A."""

    matrix: Float[Tensor, "N N"]
    weights: Float[Tensor, " N"]


class KernelFilter:
    """The N×N filter matrix W of a kernel between the patches of a picture, N = H·W.

    ::

        K_ij = k(p_i, p_j) · exp(−‖r_i − r_j‖² / s²)         r_i: the position of pixel i
        W = D⁻¹ K, D = diag(K 1)     normalize="rows": each row is a weighted average
        W = K / λ_max(K)             normalize="spectral": symmetric, largest eigenvalue 1
        W = η K                      normalize=η: symmetric

    The factor in the positions is there if ``spatial`` is given. A Gaussian blur, the bilateral filter and
    non-local means are this filter with a Gaussian kernel of infinite bandwidth and a finite s, with 1×1
    patches and a finite s, and with larger patches and any s.

    Args:
        image: The picture whose patches are compared: (C, H, W), values in [0, 1].
        kernel: The similarity of two patches.
        patch_size: The side of a patch, odd.
        normalize: ``"rows"``, ``"spectral"``, or the number η.
        spatial: s in pixels, or None for all pairs of pixels alike.
        padding: What the patches see beyond the border; see :func:`dipfilters.extract_patches`.

    Raises:
        PictureError, ValueError: As :func:`dipfilters.extract_patches`; an unknown ``normalize``; a
            ``spatial`` that is not positive.

    Cost: nothing at first; each product computes the N² kernel values tile by tile in float64, unless they
    take up to 0.54 GB (90×90 pixels), when they are kept.

    Source: Buades, Coll and Morel (2005) [buades2005]; Milanfar (2013) [milanfar2013].
    """

    def __init__(
        self,
        image: Float[Tensor, "C H W"],
        kernel: Kernel,
        *,
        patch_size: int,
        normalize: Literal["rows", "spectral"] | float,
        spatial: float | None = None,
        padding: Padding = "reflect",
    ) -> None:
        if isinstance(normalize, str) and normalize not in ("rows", "spectral"):
            raise ValueError(f'normalize must be "rows", "spectral" or a number, got {normalize!r}')
        if not isinstance(normalize, str) and not 0 < normalize < math.inf:
            raise ValueError(f"normalize as a number must be positive and finite, got {normalize}")
        if spatial is not None and not spatial > 0:
            raise ValueError(f"spatial must be a positive number of pixels or None, got {spatial}")
        self.kernel = kernel
        self.patch_size = patch_size
        self.normalize = normalize
        self.spatial = spatial
        self._patches = extract_patches(image, patch_size, padding=padding).double()
        self.shape = (image.shape[1], image.shape[2])

    @property
    def symmetric(self) -> bool:
        """Whether W is its own transpose: it is, unless its rows are normalised."""
        return self.normalize != "rows"

    @cached_property
    def scale(self) -> float:
        """The factor η of W = η K; 1 for a row-normalised filter, whose rows have factors of their own."""
        if isinstance(self.normalize, str):
            return 1.0 / self._largest_eigenvalue() if self.normalize == "spectral" else 1.0
        return float(self.normalize)

    @cached_property
    def row_sums(self) -> Float[Tensor, " N"]:
        """D = K 1, the sum of each row of the kernel matrix.

        Raises:
            ValueError: A sum that is not positive, so that no weighted average can be made of its row.
        """
        return self._check_sums(self._times_kernel(torch.ones_like(self._patches[:, :1]))[:, 0])

    def row(self, pixel: tuple[int, int]) -> Float[Tensor, "H W"]:
        """The row of W that computes one pixel, as a picture: who contributes to it, and how much.

        Args:
            pixel: (row, column), counted from the upper left corner.

        Raises:
            IndexError: A pixel outside the picture.
            ValueError: As :attr:`row_sums`, which the products with a row-normalised W may raise too.

        Cost: N kernel values.
        """
        (r, c), (height, width) = pixel, self.shape
        if not (0 <= r < height and 0 <= c < width):
            raise IndexError(f"pixel {pixel} lies outside the picture of {height}×{width} pixels")
        i = r * width + c
        weights = self._tile(i, i + 1)[0]
        if self.normalize == "rows":
            weights = weights / self._check_sums(weights.sum()[None], first=i)
        else:
            weights = weights * self.scale
        return weights.reshape(self.shape)

    def apply(self, picture: Float[Tensor, "*batch H W"]) -> Float[Tensor, "*batch H W"]:
        """W times a picture, or a stack of them: the same W for each channel. Same dtype out as in.

        Raises:
            PictureError: A picture of another height or width, or of whole numbers.

        Cost: N² kernel values, once for the whole stack.
        """
        if not picture.is_floating_point():
            raise PictureError(f"picture must hold floats, got {picture.dtype}; divide 8-bit values by 255")
        if tuple(picture.shape[-2:]) != self.shape:
            raise PictureError(
                f"picture must be {self.shape} pixels like the filter's, got {tuple(picture.shape[-2:])}"
            )
        columns = picture.reshape(-1, len(self._patches)).T.to(self._patches)
        if self.normalize == "rows":  # the row sums are the product with ones: one walk over K gives both
            product = self._times_kernel(torch.cat([columns, torch.ones_like(columns[:, :1])], dim=1))
            product = product[:, :-1] / self._check_sums(product[:, -1])[:, None]
        else:
            product = self._times_kernel(columns) * self.scale
        return product.T.reshape(picture.shape).to(picture.dtype)

    def dense(self, *, budget_gb: float = 4.0) -> Float[Tensor, "N N"]:
        """The matrix W itself, in float64.

        Raises:
            MemoryBudgetError: It would take more than ``budget_gb`` GB.

        Cost: 8 N² bytes: 0.13 GB for 64×64 pixels, 2.1 GB for 128×128, 34 GB for 256×256.
        """
        matrix = self._dense_kernel(budget_gb)
        if self.normalize == "rows":
            return matrix / self.row_sums[:, None]
        return matrix * self.scale

    def symmetric_form(self, *, budget_gb: float = 4.0) -> SymmetricForm:
        """A symmetric matrix with the eigenvalues of W, and the weights that lead back to W.

        A symmetric W is its own form, with weights of one. For rows that sum to one,
        A = D^(−1/2) K D^(−1/2), and the weights are D: W is not symmetric, but similar to A.

        Raises:
            MemoryBudgetError: As :meth:`dense`.

        Source: Milanfar (2013) [milanfar2013].
        """
        matrix = self._dense_kernel(budget_gb)
        if self.symmetric:
            return SymmetricForm(matrix * self.scale, torch.ones_like(matrix[0]))
        root = self.row_sums.sqrt()
        return SymmetricForm(matrix / (root[:, None] * root[None, :]), self.row_sums)

    def _check_sums(self, sums: Tensor, first: int = 0) -> Tensor:
        """The row sums of the pixels from ``first`` on, if all are positive."""
        refused = torch.nonzero(~(sums > 0))
        if len(refused) > 0:
            i = int(refused[0])
            raise ValueError(
                f"the weights of pixel {divmod(first + i, self.shape[1])} sum to {float(sums[i]):.3g} and "
                f"make no average: its patch, black perhaps, resembles none; use "
                f'normalize="spectral", another kernel or a wider bandwidth'
            )
        return sums

    def _tile(self, start: int, stop: int) -> Tensor:
        """The rows ``start`` to ``stop`` of K."""
        whole = (start, stop) == (0, len(self._patches))
        part = self._patches if whole else self._patches[start:stop]
        tile = self.kernel(part, self._patches)
        if self.spatial is not None:
            pixels = torch.arange(len(self._patches), device=tile.device)
            rows, columns = pixels // self.shape[1], pixels % self.shape[1]
            squared = (rows[start:stop, None] - rows).square() + (
                columns[start:stop, None] - columns
            ).square()
            tile = tile * torch.exp(squared.to(tile) / -(self.spatial**2))
        return tile

    @cached_property
    def _kept_kernel(self) -> Tensor:
        return self._assembled_kernel()

    def _assembled_kernel(self) -> Tensor:
        """K, filled tile by tile, since a kernel needs several times the memory of its result."""
        n = len(self._patches)
        matrix = self._patches.new_empty(n, n)
        for start, stop in self._tiles():
            matrix[start:stop] = self._tile(start, stop)
        return matrix

    def _tiles(self) -> list[tuple[int, int]]:
        n = len(self._patches)
        height = max(1, _TILE_ENTRIES // n)
        return [(start, min(start + height, n)) for start in range(0, n, height)]

    def _times_kernel(self, columns: Tensor) -> Tensor:
        """K times the columns of an (N, m) matrix."""
        n = len(self._patches)
        if n * n <= _KEPT_ENTRIES:
            return self._kept_kernel @ columns
        return torch.cat([self._tile(start, stop) @ columns for start, stop in self._tiles()])

    def _dense_kernel(self, budget_gb: float) -> Tensor:
        n = len(self._patches)
        size_gb = 8 * n * n / 1e9
        if size_gb > budget_gb:
            raise MemoryBudgetError(
                f"the dense filter of {self.shape[0]}×{self.shape[1]} pixels takes {size_gb:.3g} GB, over "
                f"the budget of {budget_gb:g} GB; call apply() or row(), which need no matrix, use a "
                f"smaller picture, or raise budget_gb"
            )
        return self._kept_kernel if n * n <= _KEPT_ENTRIES else self._assembled_kernel()

    def _largest_eigenvalue(self) -> float:
        """λ_max(K) by Lanczos; a fixed start makes it the same at every call."""
        from scipy.sparse.linalg import LinearOperator, eigsh

        n = len(self._patches)

        def product(vector: np.ndarray) -> np.ndarray:
            column = torch.from_numpy(vector.reshape(n, -1)).to(self._patches)
            return self._times_kernel(column).cpu().numpy()

        operator = LinearOperator((n, n), matvec=product, dtype=np.float64)
        if n <= 8:  # Lanczos needs more pixels than vectors
            return float(torch.linalg.eigvalsh(self._tile(0, n))[-1])
        value = eigsh(operator, k=1, which="LA", ncv=8, tol=1e-10, v0=np.ones(n), return_eigenvectors=False)
        return float(value[0])
