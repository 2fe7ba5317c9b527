"""A kernel over a picture as a linear filter: each pixel becomes a weighted average of all pixels."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dipfilters.engines import batched, cpu
from dipfilters.engines.program import KernelProgram, MeanStage, box_mean, program_of_kernel
from dipfilters.images import check_detached, check_pixels, check_shape, pixel_numbers
from dipfilters.kernels import Kernel, leaky_relu_weights
from dipfilters.parameters import check_choice, check_positive, check_whole
from dipfilters.patches import Padding, check_patch_size, pad, unfold

_TILE_ENTRIES = 2**18  # 2 MB of float64 a tile: its temporaries stay in the processor's cache
_LARGEST_KEPT = 2**26  # entries of a kernel matrix that is kept between products: 537 MB, 90×90 pixels
_MOST_PATCHES = 2**22  # entries of patches that are kept between their uses: 34 MB
_ROUNDING = 1e-10  # eigenvalues below this share of the largest are rounding: thousands of times 1e-16
_PRODUCTS_AT_ONCE = 64  # columns of K that are made as products with unit vectors together
_ADAPTIVE_ROUNDS = 10  # adaptive columns are drawn in so many; more are slower and hardly better

Normalize = Literal["rows", "spectral"] | float
Sampling = Literal["uniform", "adaptive"]
Engine = Literal["auto", "reference", "cpu", "batched"]

_ENGINES: dict[str, ModuleType] = {"cpu": cpu, "batched": batched}


class MemoryBudgetError(MemoryError):
    """More memory than the stated budget, or than the device has; the message says what to do instead."""


def check_memory(size: int, shape: Sequence[int], budget: float, name: str = "budget_gb") -> None:
    """Refuse work on H×W pixels that takes more bytes than a budget in GB, or a budget that is none.

    Raises:
        MemoryBudgetError: With the size and what needs less.
        ValueError: A budget that is not positive and finite.
    """
    check_positive(name, budget)
    if size / 1e9 > budget:
        raise MemoryBudgetError(
            f"this takes {size / 1e9:.3g} GB for {shape[0]}×{shape[1]} pixels, over {name} = {budget:g}; "
            f"{'use apply() or fewer columns, ' if name == 'budget_gb' else ''}take a smaller picture or a "
            f"part of it, or raise {name}"
        )


@contextmanager
def device_memory(shape: Sequence[int], device: torch.device) -> Iterator[None]:
    """Say what to do where the memory of a graphics card runs out, in work on H×W pixels.

    Raises:
        MemoryBudgetError: It did.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryBudgetError(
            f"the memory of {device} ran out at {shape[0]}×{shape[1]} pixels; end what else uses it, take a "
            f"smaller picture or a part of it, or move the picture to the processor with .cpu()"
        ) from error


class SymmetricForm(NamedTuple):
    """W = diag(d^(−1/2)) A diag(d^(1/2)) with a symmetric A, so that W has the eigenvalues of A."""

    matrix: Float[Tensor, "N N"]
    weights: Float[Tensor, " N"]


class KernelJob(NamedTuple):
    """What an engine needs to multiply with a filter's kernel: see :mod:`dipfilters.engines`."""

    program: KernelProgram
    padded: Float[Tensor, "C h w"]


class Decomposition(NamedTuple):
    """W = right diag(λ) leftᵀ with leftᵀ right = I: the eigenvectors whose eigenvalues are not zero.

    For a symmetric W, left and right are one, and orthonormal.
    """

    eigenvalues: Float[Tensor, " m"]
    left: Float[Tensor, "N m"]
    right: Float[Tensor, "N m"]


class _KernelProduct(torch.autograd.Function):
    """K times columns. K is symmetric, so that the gradient for the columns is a product with K as well."""

    @staticmethod
    def forward(context: Any, columns: Tensor, filter: Filter) -> Tensor:
        context.filter = filter
        return filter._product(columns)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return context.filter.times_kernel(gradients[0]), None


class Filter(ABC):
    """The N×N filter matrix W made from a symmetric kernel matrix K between the pixels of a picture.

    ::

        W = D⁻¹ K, D = diag(K 1)     normalize="rows": each row is a weighted average
        W = K / λ_max(K)             normalize="spectral": symmetric, largest eigenvalue 1
        W = η K                      normalize=η: symmetric

    Products with K, and K itself, come from an engine. ``"reference"`` computes in float64 and keeps matrices
    up to 0.54 GB. ``"cpu"`` and ``"batched"`` go through the displacements between two pixels in float32 and
    store nothing of size N²; they know the package's own kernels and networks that pad once. Their error is
    at most 1e-6 λ_max(K) ‖v‖ as a rule; see :mod:`dipfilters.engines`. ``"auto"`` takes the reference up to
    90×90 pixels, and above that the one of the picture's device, where it knows the kernel. Single rows and
    columns are the reference's always.

    What a filter is made from is taken as it is, without a gradient. A picture that it is applied to keeps
    its own, on every engine.

    Attributes:
        shape: (H, W) of the picture, N = H·W.
        normalize: ``"rows"``, ``"spectral"``, or the number η.
        engine: The engine in use: ``"reference"``, ``"cpu"`` or ``"batched"``.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        normalize: Normalize,
        device: torch.device,
        *,
        engine: Engine = "reference",
        job: KernelJob | None = None,
    ) -> None:
        check_choice("engine", engine, Engine)
        if isinstance(normalize, str):
            check_choice("normalize as a word", normalize, Literal["rows", "spectral"])
        else:
            check_positive("normalize as a number", normalize)
        self.shape = shape
        self.normalize = normalize
        self._ones = torch.ones(math.prod(shape), 1, dtype=torch.float64, device=device)
        self._job = job
        if engine == "auto":
            small = len(self._ones) ** 2 <= _LARGEST_KEPT
            engine = "reference" if small or job is None else "batched" if device.type == "cuda" else "cpu"
        elif engine in _ENGINES and job is None:
            raise ValueError(f'engine {engine!r} does not know this kernel; use engine="reference"')
        self.engine = engine

    def _kernel_columns(self, pixels: Sequence[int]) -> Float[Tensor, "N m"]:
        """The columns of K that belong to some pixels, numbered r·W + c: products with unit vectors."""
        columns = self._ones.new_empty(len(self._ones), len(pixels))
        for start in range(0, len(pixels), _PRODUCTS_AT_ONCE):
            some = list(pixels[start : start + _PRODUCTS_AT_ONCE])
            units = self._ones.new_zeros(len(self._ones), len(some))
            units[some, range(len(some))] = 1.0
            columns[:, start : start + len(some)] = self._reference_product(units)
        return columns

    @abstractmethod
    def _kernel_diagonal(self) -> Float[Tensor, " N"]:
        """K_ii for every pixel i."""

    def _reference_matrix(self) -> Float[Tensor, "N N"]:
        """K itself, in float64."""
        return self._kernel_columns(range(len(self._ones)))

    def _reference_product(self, columns: Float[Tensor, "N m"]) -> Float[Tensor, "N m"]:
        """K times the columns of a matrix, in float64; a filter has this or its columns of its own."""
        return self._reference_matrix() @ columns

    def times_kernel(self, columns: Float[Tensor, "N m"]) -> Float[Tensor, "N m"]:
        """K times the columns of a matrix, in float64 on the filter's device, whatever ``normalize`` says.

        Raises:
            MemoryBudgetError: The memory of the device ran out.

        Cost: N² kernel values, once for all columns.
        """
        product: Tensor = _KernelProduct.apply(columns.to(self._ones), self)  # type: ignore[no-untyped-call]
        return product

    def _product(self, columns: Tensor) -> Tensor:
        with device_memory(self.shape, self._ones.device):
            if self._job is None or self.engine == "reference":
                return self._reference_product(columns)
            product: Tensor = _ENGINES[self.engine].product(*self._job, columns)
            return product

    def _dense_kernel(self, budget_gb: float) -> Float[Tensor, "N N"]:
        """K itself, or MemoryBudgetError."""
        check_memory(8 * len(self._ones) ** 2, self.shape, budget_gb)
        with device_memory(self.shape, self._ones.device):
            if self._job is None or self.engine == "reference":
                return self._reference_matrix()
            matrix: Tensor = _ENGINES[self.engine].dense(*self._job)
            return matrix

    @property
    def knows_scale(self) -> bool:
        """Whether :attr:`scale` is at hand, without a search for the largest eigenvalue."""
        return self.normalize != "spectral" or "scale" in vars(self)

    def learn_scale(self, scale: float) -> None:
        """Take the factor that :class:`dipfilters.LanczosTwicing` found on its way, and search for none."""
        self.scale = scale

    @property
    def symmetric(self) -> bool:
        """Whether W is its own transpose: it is, unless its rows are normalised."""
        return self.normalize != "rows"

    @cached_property
    def scale(self) -> float:
        """The factor η of W = η K; 1 for a row-normalised filter, whose rows have factors of their own."""
        if self.normalize != "spectral":
            return 1.0 if self.normalize == "rows" else float(self.normalize)
        _largest(self._kernel_diagonal())

        def product(vector: np.ndarray) -> np.ndarray:
            return self.times_kernel(torch.from_numpy(vector.reshape(-1, 1))).cpu().numpy()[:, 0]

        # The error of the value is about the square of the tolerance; products in float32 are no better.
        work = (8, 1e-10) if self.engine == "reference" else (4, 1e-4)
        return 1.0 / lanczos_largest(product, np.ones(len(self._ones)), *work)  # always the same start

    @cached_property
    def row_sums(self) -> Float[Tensor, " N"]:
        """D = K 1, the sum of each row of the kernel matrix.

        Raises:
            ValueError: A sum that is not positive, so that no weighted average can be made of its row.
        """
        return self._check_sums(self.times_kernel(self._ones)[:, 0])

    @property
    def weights(self) -> Float[Tensor, " N"]:
        """D if the rows are normalised, else ones: D^(1/2) W D^(−1/2) is symmetric."""
        return self.row_sums if self.normalize == "rows" else self._ones[:, 0]

    def row(self, pixel: tuple[int, int]) -> Float[Tensor, "H W"]:
        """The row of W that computes one pixel, as a picture: which pixels contribute to it, and how much.

        Args:
            pixel: (row, column), counted from the upper left corner.

        Raises:
            IndexError: A pixel outside the picture.
            ValueError: As :attr:`row_sums`, which the products with a row-normalised W may raise too.

        Cost: N kernel values.
        """
        (i,) = pixel_numbers([pixel], self.shape)
        weights = self._kernel_columns([i])[:, 0]
        if self.normalize == "rows":
            weights = weights / self._check_sums(weights.sum()[None], first=i)
        else:
            weights = weights * self.scale
        return weights.reshape(self.shape)

    def columns(self, pixels: Sequence[tuple[int, int]], *, budget_gb: float = 4.0) -> Float[Tensor, "N m"]:
        """The columns of W that belong to some pixels (row, column): how much each gives to all others.

        Raises:
            IndexError: A pixel outside the picture.
            MemoryBudgetError: They would take more than ``budget_gb`` GB.

        Cost: N kernel values a column; all row sums besides if the rows are normalised.
        """
        check_memory(8 * len(pixels) * len(self._ones), self.shape, budget_gb)
        return self._normalized(self._kernel_columns(pixel_numbers(pixels, self.shape)))

    def apply(self, picture: Float[Tensor, "*batch H W"]) -> Float[Tensor, "*batch H W"]:
        """W times a picture, or a stack of them: the same W for each channel. Same dtype and device as in.

        Raises:
            PictureError: A picture of another height or width, of whole numbers, or with a pixel that is
                NaN or infinite.
            MemoryBudgetError: The memory of the device ran out.

        Cost: N² kernel values, once for the whole stack; as much again for a gradient.
        """
        check_pixels(picture, "picture")
        check_shape("picture", picture.shape[-2:], self.shape, "the filter")
        columns = picture.reshape(-1, len(self._ones)).T.to(self._ones)
        if self.normalize == "rows":  # the row sums are the product with ones: K is gone through once
            product = self.times_kernel(torch.cat([columns, self._ones], dim=1))
            product = product[:, :-1] / self._check_sums(product[:, -1].detach())[:, None]
        else:
            product = self.times_kernel(columns) * self.scale
        return product.T.reshape(picture.shape).to(picture)

    def dense(self, *, budget_gb: float = 4.0) -> Float[Tensor, "N N"]:
        """The matrix W itself, in float64.

        Raises:
            MemoryBudgetError: It would take more than ``budget_gb`` GB.

        Cost: 8 N² bytes: 0.13 GB for 64×64 pixels, 2.1 GB for 128×128, 34 GB for 256×256.
        """
        return self._normalized(self._dense_kernel(budget_gb))

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
            return SymmetricForm(matrix * self.scale, self.weights)
        root = self.weights.sqrt()
        return SymmetricForm(matrix / (root[:, None] * root[None, :]), self.weights)

    def decomposition(self, *, budget_gb: float = 4.0) -> Decomposition:
        """The eigenvalues of W, the largest first, with its left and right eigenvectors.

        Raises:
            MemoryBudgetError: Four N×N matrices of float64 would take more than ``budget_gb`` GB.

        Cost: about 10 N³ operations (some tenths of a second for 32×32 pixels, some seconds for 64×64 on two
        cores), four N×N matrices of float64.
        """
        check_memory(4 * 8 * len(self._ones) ** 2, self.shape, budget_gb)
        matrix = self.symmetric_form(budget_gb=budget_gb).matrix
        with device_memory(self.shape, matrix.device):
            eigenvalues, vectors = torch.linalg.eigh(matrix)
            return self._decomposition(eigenvalues.flip(0), vectors.flip(1))

    def low_rank(
        self,
        columns: int,
        *,
        generator: torch.Generator,
        sampling: Sampling = "uniform",
        budget_gb: float = 4.0,
    ) -> LowRankFilter:
        """The Nyström approximation of this filter, from some columns of its kernel matrix.

        ::

            K ≈ F Fᵀ + C M⁺ Cᵀ,    R = K − F Fᵀ,   C = R[:, I],   M = R[I, I]

        with F from :meth:`linear_part`, if there is one, and I a random set of pixels. What the columns in I
        span is kept exactly, the rest is left out. Since R is positive semi-definite, so is what is missed.
        Eigenvalues of M below 1e-10 of the largest kernel value are rounding, and dropped from M⁺.

        Args:
            columns: How many pixels are in I.
            generator: The source of chance.
            sampling: ``"uniform"`` draws every pixel with the same chance. ``"adaptive"`` draws in ten
                rounds, each pixel with a chance in proportion to R_ii − (C M⁺ Cᵀ)_ii, what the columns so
                far miss of it: randomly pivoted Cholesky, in blocks.
            budget_gb: Refuse work that takes more memory than this.

        Raises:
            ValueError: A number of columns below 1 or above N; an unknown sampling; a kernel that is 0.
            MemoryBudgetError: Columns and factor would take more.

        Cost: N·m kernel values and about 2 N m² operations for m columns, 24 bytes for each number in them
        and in F: 5 s and 1.2 GB for 256×256 pixels and 1 % of them on two cores.

        Source: Williams and Seeger (2001) [williams2001]; Chen, Epperly, Tropp and Webber (2025) [chen2025]
        for the adaptive sampling.
        """
        if check_whole("columns", columns, 1) > len(self._ones):
            raise ValueError(f"columns must not exceed the {len(self._ones)} pixels, got {columns}")
        check_choice("sampling", sampling, Sampling)
        check_memory(3 * 8 * (columns + self.linear_width) * len(self._ones), self.shape, budget_gb)
        rounds = min(_ADAPTIVE_ROUNDS if sampling == "adaptive" else 1, columns)
        diagonal = self._kernel_diagonal()
        largest = _largest(diagonal)
        chances = torch.ones_like(diagonal)
        factor = self._ones.new_empty(len(self._ones), self.linear_width + columns)
        self._fill_linear_part(factor)
        made = self.linear_width  # so many columns of B, with F Fᵀ + C M⁺ Cᵀ = B Bᵀ
        for part in np.array_split(np.arange(columns), rounds):
            draws = min(len(part), int((chances > 0).sum()))
            if draws == 0:  # nothing is missing any more
                break
            where = torch.multinomial(chances.to(generator.device), draws, generator=generator)
            chosen = where.to(diagonal.device)
            known = factor[:, :made]
            missing = self._kernel_columns(chosen.tolist()).addmm_(known, known[chosen].T, alpha=-1)
            values, vectors = torch.linalg.eigh(missing[chosen])
            kept = values > _ROUNDING * largest
            begun, made = made, made + int(kept.sum())
            factor[:, begun:made] = missing @ (vectors[:, kept] / values[kept].sqrt())
            if rounds > 1:  # the first one draws uniformly, later ones what is missing
                chances = diagonal - factor[:, :made].square().sum(1)
                chances = torch.where(chances > _ROUNDING * largest, chances, 0.0)
        return LowRankFilter(factor[:, :made], self.shape, normalize=self.normalize)

    def linear_part(self) -> Float[Tensor, "N d"]:
        """F with K − F Fᵀ positive semi-definite: what K has of first order in the cosines of its layers.

        ::

            κ₁(φ) = 1/π + cos φ/2 + r₁(cos φ),   κ₀(φ) = 1/2 + r₀(cos φ)

        No coefficient of the power series r₁ and r₀ is negative. Entrywise products and averages of positive
        semi-definite matrices are such, and so with β = (1−α)²/(1+α²), c = (1+α)²/(2 (1+α²)) and
        n_i = √Sigma_ii, each activation and its derivative obey, in the order of such matrices, ::

            V(Sigma) ≥ c Sigma + (β/π) n nᵀ,   V'(Sigma) ∘ Theta ≥ c Theta

        Followed through the layers, the right sides stay sums of P(i + δ) P(j + δ) over the δ of a window,
        with P the input or n. For a ReLU between patches, F Fᵀ is ‖p‖‖q‖ (1/π + cos φ/2), and
        ‖p‖‖q‖ (1/π + cos φ) for the tangent kernel.

        None is known, so that d = 0, for the Gaussian kernel, with a factor in the positions, for a kernel of
        one's own and for networks that do not pad once.
        """
        part = self._ones.new_empty(len(self._ones), self.linear_width)
        self._fill_linear_part(part)
        return part

    def _fill_linear_part(self, columns: Float[Tensor, "N m"]) -> None:
        """Write F into the first columns."""
        start = 0
        for planes, window in self._linear_windows():
            for plane in planes:
                there = columns[:, start : start + window.numel()].view(*self.shape, *window.shape)
                windows = plane.unfold(0, len(window), 1).unfold(1, len(window), 1)
                torch.mul(windows, window.sqrt(), out=there)
                start += window.numel()

    @property
    def linear_width(self) -> int:
        """d, how many columns :meth:`linear_part` has."""
        return sum(len(planes) * window.numel() for planes, window in self._linear_windows())

    @property
    def compares_patches(self) -> bool:
        """Whether a column costs no more than N values of a function of two patches."""
        stages = () if self._job is None else self._job.program.stages
        return all(stage.size == 1 for stage in stages[1:] if isinstance(stage, MeanStage))

    def _linear_windows(self) -> list[tuple[Float[Tensor, "c h w"], Float[Tensor, "s s"]]]:
        """Planes P and windows w: F Fᵀ is the sum of all w(δ) P(i + δ) P(j + δ)."""
        if self._job is None or self._job.program.read == "gaussian" or self._job.program.spatial is not None:
            return []
        program, padded = self._job
        power, one = padded.square().mean(0), padded.new_ones(1, 1)
        parts = [(padded / len(padded) ** 0.5, one, 0 * one)]  # planes, their windows in Sigma and in Theta
        for stage in program.stages:
            if isinstance(stage, MeanStage):
                power, box = box_mean(power, stage.size), one.expand(1, 1, stage.size, stage.size)
                for i, (planes, *windows) in enumerate(parts):
                    wide = [F.conv2d(w[None], box / box.numel(), padding=stage.size - 1)[0] for w in windows]
                    parts[i] = (planes, wide[0], wide[1] + stage.part * wide[0])
            else:
                kept, relu = leaky_relu_weights(stage.slope)
                parts = [(p, *((kept + relu / 2) * w for w in windows)) for p, *windows in parts]
                parts.append((power.sqrt()[None], relu / math.pi * one, 0 * one))
        return [(p, sigma if program.read == "sigma" else theta) for p, sigma, theta in parts]

    def _normalized(self, columns: Tensor) -> Tensor:
        """Columns of W from columns of K."""
        return columns / self.row_sums[:, None] if self.normalize == "rows" else columns * self.scale

    def _decomposition(self, eigenvalues: Tensor, vectors: Tensor) -> Decomposition:
        """The decomposition of W from that of its symmetric form."""
        if self.symmetric:
            return Decomposition(eigenvalues, vectors, vectors)
        root = self.weights.sqrt()[:, None]
        return Decomposition(eigenvalues, root * vectors, vectors / root)

    def _check_sums(self, sums: Tensor, first: int = 0) -> Tensor:
        """The row sums of the pixels from ``first`` on, if all are positive."""
        refused = torch.nonzero(~(sums > 0))
        if len(refused) > 0:
            i = int(refused[0])
            raise ValueError(
                f"the weights of pixel {divmod(first + i, self.shape[1])} sum to {float(sums[i]):.3g}: its "
                f'patch, black perhaps, resembles none; use normalize="spectral" or a wider bandwidth'
            )
        return sums


def lanczos_largest(
    product: Callable[[np.ndarray], np.ndarray], start: np.ndarray, vectors: int, tolerance: float
) -> float:
    """The largest eigenvalue of a symmetric matrix by its products, with so many vectors of Lanczos."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    n = len(start)
    if n <= 8:  # Lanczos needs more entries than vectors
        return float(np.linalg.eigvalsh(np.stack([product(unit) for unit in np.eye(n)]))[-1])
    operator = LinearOperator((n, n), matvec=product, dtype=np.float64)
    options = {"ncv": vectors, "tol": tolerance, "return_eigenvectors": False}
    return float(eigsh(operator, k=1, which="LA", v0=start, **options)[0])


def _largest(diagonal: Tensor) -> float:
    """The largest K_ii, and so the largest |K_ij|, if it is not 0."""
    largest = float(diagonal.max())
    if not largest > 0:
        raise ValueError(
            "the kernel is 0 between all pixels, as that of a black picture is, and makes no filter; add a "
            "constant to the picture, or leave out this part of it"
        )
    return largest


class KernelFilter(Filter):
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
        engine: What computes products and dense matrices; see :class:`Filter`.

    Raises:
        PictureError, ValueError: As :func:`dipfilters.extract_patches`; an unknown ``normalize``; a
            ``spatial`` that is not positive; an engine that does not know the kernel.

    Cost: nothing at first. Each product computes N² kernel values: about 0.3 ns each by the engine
    ``"cpu"`` on two cores; ten times that by the reference, which keeps them up to 90×90 pixels.

    Source: Buades, Coll and Morel (2005) [buades2005]; Milanfar (2013) [milanfar2013].
    """

    def __init__(
        self,
        image: Float[Tensor, "C H W"],
        kernel: Kernel,
        *,
        patch_size: int,
        normalize: Normalize,
        spatial: float | None = None,
        padding: Padding = "reflect",
        engine: Engine = "auto",
    ) -> None:
        if spatial is not None and not (spatial > 0 and spatial**2 > 0):  # the square of 1e-200 is 0
            raise ValueError(f"spatial must be a positive number of pixels or None, got {spatial}")
        check_patch_size(image, patch_size, padding)
        check_detached(image, "image")
        padded = pad(image.double()[None], patch_size // 2, padding)[0]
        program = program_of_kernel(kernel, patch_size, spatial)
        job = None if program is None else KernelJob(program, padded)
        super().__init__((image.shape[1], image.shape[2]), normalize, image.device, engine=engine, job=job)
        self._padded = padded
        self.kernel = kernel
        self.patch_size = patch_size
        self.spatial = spatial

    @cached_property
    def _kept_patches(self) -> Float[Tensor, "N d"]:
        return unfold(self._padded, self.patch_size)

    @property
    def _patches(self) -> Float[Tensor, "N d"]:
        entries = len(self._ones) * len(self._padded) * self.patch_size**2
        return self._kept_patches if entries <= _MOST_PATCHES else unfold(self._padded, self.patch_size)

    def _kernel_diagonal(self) -> Tensor:
        powers = self._padded.square().mean(0)
        if self.patch_size > 1:
            powers = box_mean(powers, self.patch_size)
        powers = powers.flatten()
        return self.kernel.from_products(powers, powers, powers)

    def _kernel_columns(self, pixels: Sequence[int]) -> Tensor:
        return self._rows(torch.as_tensor(pixels, device=self._ones.device)).T

    @cached_property
    def _every(self) -> Tensor:
        return torch.arange(len(self._ones), device=self._ones.device)

    def _rows(self, pixels: Tensor) -> Tensor:
        rows, start = self._ones.new_empty(len(pixels), len(self._ones)), 0
        for tile in self._tiles(pixels):
            rows[start : start + len(tile)] = tile
            start += len(tile)
        return rows

    def _tiles(self, pixels: Tensor) -> Iterator[Tensor]:
        """The rows of K that belong to pixels, a few at a time: a kernel needs several times their memory."""
        patches = self._patches
        for part in torch.split(pixels, max(1, _TILE_ENTRIES // len(patches))):
            # All pixels in their order: the same matrix twice, which the kernel knows how to use.
            tile = self.kernel(patches if torch.equal(part, self._every) else patches[part], patches)
            if self.spatial is not None:
                down = part[:, None] // self.shape[1] - self._every // self.shape[1]
                right = part[:, None] % self.shape[1] - self._every % self.shape[1]
                squared = down.square() + right.square()
                tile = tile * torch.exp(squared.to(tile) / -(self.spatial**2))
            yield tile

    @cached_property
    def _kept_kernel(self) -> Tensor:
        return self._rows(self._every)

    def _reference_matrix(self) -> Tensor:
        return self._kept_kernel if len(self._every) ** 2 <= _LARGEST_KEPT else self._rows(self._every)

    def _reference_product(self, columns: Tensor) -> Tensor:
        if len(self._every) ** 2 <= _LARGEST_KEPT:
            return self._kept_kernel @ columns
        return torch.cat([tile @ columns for tile in self._tiles(self._every)])


class LowRankFilter(Filter):
    """A filter whose kernel matrix is K = B Bᵀ with N×m numbers B, as :meth:`Filter.low_rank` makes it.

    Its own largest eigenvalue and row sums normalise it, those of the approximation.

    Args:
        factor: B.
        shape: (H, W) of the picture, H·W = N.
        normalize: As for :class:`Filter`.

    Cost: 4 N m operations a product with a picture; the decomposition N m² once.
    """

    def __init__(self, factor: Float[Tensor, "N m"], shape: tuple[int, int], *, normalize: Normalize) -> None:
        check_detached(factor, "factor")
        super().__init__(shape, normalize, factor.device)
        self.factor = factor.double()

    def decomposition(self, *, budget_gb: float = 4.0) -> Decomposition:
        """The eigenvalues of W, the largest first, with eigenvectors; see :meth:`Filter.decomposition`.

        Cost: 4 N m² operations, and as much memory as B twice.
        """
        check_memory(2 * 8 * self.factor.numel(), self.shape, budget_gb)
        factor = self.factor / self.weights.sqrt()[:, None]
        values, vectors = torch.linalg.eigh(factor.T @ factor)  # the eigenvalues of B Bᵀ that are not 0
        kept = values > _ROUNDING * values[-1]
        values, vectors = values[kept].flip(0), vectors[:, kept].flip(1)
        return self._decomposition(values * self.scale, factor @ (vectors / values.sqrt()))

    def _reference_product(self, columns: Tensor) -> Tensor:
        return self.factor @ (self.factor.T @ columns)

    def _kernel_columns(self, pixels: Sequence[int]) -> Tensor:
        return self.factor @ self.factor[list(pixels)].T

    def _kernel_diagonal(self) -> Tensor:
        return self.factor.square().sum(1)

    def _reference_matrix(self) -> Tensor:
        return self.factor @ self.factor.T
