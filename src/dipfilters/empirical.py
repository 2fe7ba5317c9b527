"""The tangent kernel of a network as it is: of finite width, with its present weights.

With the output z = f(w) as one long vector and J = ∂z/∂w, the tangent kernel is J Jᵀ. It depends on the
weights, and changes while they are trained; its limit for infinite width is that of ``ntk``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, jvp, vjp

from dipfilters.filters import (
    Decomposition,
    Filter,
    LowRankFilter,
    Normalize,
    check_memory,
    lanczos_largest,
)
from dipfilters.images import check_detached, check_picture, check_shape, pixel_numbers
from dipfilters.parameters import check_positive, check_whole

Weights = dict[str, Tensor]
Output = Callable[[Weights], Tensor]


def tangent_product(
    network: nn.Module, input: Float[Tensor, "C H W"], picture: Float[Tensor, "O H W"]
) -> Float[Tensor, "O H W"]:
    """The network's tangent kernel times a picture of the size of its output: J Jᵀ v.

    ::

        one gradient g = Jᵀ v,  then one directional derivative J g

    Only weights that require a gradient count. Nothing of the size of J is stored.

    Raises:
        PictureError: The input is not a picture; a picture of another shape than the output.
        ValueError: No weight that requires a gradient.

    Cost: about five forward passes, and twice the memory of the weights.

    Source: Novak and others (2020) [novak2020].
    """
    output, product = _kernel_products(network, input)
    check_shape("picture", picture.shape, output.shape, "the output")
    check_detached(picture, "picture")
    return product(picture.to(output))


def empirical_tangent_kernel(
    network: nn.Module,
    input: Float[Tensor, "C H W"],
    *,
    pixels: Sequence[tuple[int, int]] | None = None,
    budget_gb: float = 8.0,
) -> Float[Tensor, "N m"]:
    """The network's tangent kernel between all pixels, or the columns of some of them.

    ::

        Theta_ij = 1/O Σ_o Σ_w  ∂z_oi/∂w ∂z_oj/∂w        the mean over the O output channels

    For one output channel this is J Jᵀ itself. Only weights that require a gradient count.

    Args:
        network: Takes (1, C, H, W), gives (1, O, H, W).
        input: Its input.
        pixels: (row, column) of the wanted columns, or None for all N of them in their order.
        budget_gb: Refuse a result that takes more memory than this.

    Raises:
        PictureError: The input is not a picture.
        IndexError: A pixel outside the output.
        ValueError: No weight that requires a gradient.
        MemoryBudgetError: The matrix would take more.

    Cost: :func:`tangent_product` for each column and output channel; N·m numbers in the network's dtype.
    """
    output, product = _kernel_products(network, input)
    outputs, height, width = output.shape
    chosen = list(range(height * width)) if pixels is None else pixel_numbers(pixels, (height, width))
    check_memory(output.element_size() * height * width * len(chosen), (height, width), budget_gb)
    kernel = output.new_zeros(height * width, len(chosen))
    for m, i in enumerate(chosen):
        for o in range(outputs):
            unit = torch.zeros_like(output)
            unit[o].view(-1)[i] = 1.0
            kernel[:, m] += product(unit)[o].flatten() / outputs
    return kernel


def largest_eigenvalue(network: nn.Module, input: Float[Tensor, "C H W"]) -> float:
    """The largest eigenvalue of J Jᵀ, over all pixels and output channels, to one thousandth, by Lanczos.

    Gradient descent with a step η below 2/λ_max is stable as long as the kernel stays what it is.

    Raises:
        PictureError, ValueError: As :func:`tangent_product`; a kernel that is 0, as that of a black input is.

    Cost: about a dozen products.

    Source: Lee and others (2019) [lee2019].
    """
    return _largest_eigenvalue(*_kernel_products(network, input))


class JacobianFilter(Filter):
    """The filter matrix W of a network as it is: of finite width, with the weights it has now.

    ::

        K = J Jᵀ,   W = K / λ_max(K)   normalize="spectral", the step 1/λ_max of gradient descent
                    W = η K            normalize=η

    Nothing of the size of J is stored. Twicing with W is what gradient descent would do if the kernel stayed
    as it is; :class:`dipfilters.LanczosTwicing` needs no more than its products. The output's O channels are
    taken one below the other, as one picture of O·H rows: unlike the limit of infinite width, a network of
    finite width mixes them.

    Args:
        network: Takes (1, C, H, W), gives (1, O, H, W): any torch module. Its weights are copied.
        input: Its input.
        normalize: As above, or ``"rows"``.

    Raises:
        PictureError, ValueError: As :func:`tangent_product`.

    Cost: for each column of a product about five forward passes of the network, in its dtype; for the matrix
    O·H·W of them. In float32 eigenvalues below 1e-6 of the largest are rounding.

    Source: Novak and others (2020) [novak2020].
    """

    def __init__(
        self, network: nn.Module, input: Float[Tensor, "C H W"], *, normalize: Normalize = "spectral"
    ) -> None:
        self._output, self._product_with = _kernel_products(network, input)
        outputs, height, width = self._output.shape
        super().__init__((outputs * height, width), normalize, self._output.device)

    @cached_property
    def scale(self) -> float:
        """The factor η of W = η K; 1 for a row-normalised filter."""
        if self.normalize != "spectral":
            return 1.0 if self.normalize == "rows" else float(self.normalize)
        return 1.0 / _largest_eigenvalue(self._output, self._product_with)

    def _reference_product(self, columns: Tensor) -> Tensor:
        pictures = columns.T.reshape(-1, *self._output.shape).to(self._output)
        return torch.stack([self._product_with(one).flatten() for one in pictures], dim=1).to(columns)

    def _kernel_diagonal(self) -> Tensor:
        return self._reference_matrix().diagonal()


def krylov_filter(
    filter: Filter, pictures: Float[Tensor, "C H W"], products: int, *, normalize: Normalize = "spectral"
) -> KrylovFilter:
    """A filter as some pictures see it in their first products: of low rank, for all steps at once.

    ::

        K ≈ V T Vᵀ,   T = Vᵀ K V,   V an orthonormal basis of Y, K Y, …, K^{m−1} Y

    with the pictures as the columns of Y. Twicing of these pictures with it is what m steps of block Lanczos
    give. :class:`dipfilters.SpectralTwicing` then has any number of steps without further products.
    :class:`dipfilters.LanczosTwicing` bounds the error but adds a term for each step; this function bounds
    none, so that m is chosen by comparing two, and is meant for the filters of networks fed with noise, whose
    best steps come after 1e8.

    Args:
        filter: W, symmetric.
        pictures: The pictures, one a channel.
        products: m.
        normalize: Of the result, as for any filter.

    Raises:
        PictureError: Not pictures of the filter's shape, or with a gradient.
        ValueError: No product; a filter with normalised rows, or one that takes all these pictures to 0.

    Cost: m products with all pictures, 4 (C m)² N operations.

    Source: Lanczos (1950) [lanczos1950].
    """
    check_picture(pictures, "pictures")
    check_detached(pictures, "pictures")
    check_shape("pictures", pictures.shape[1:], filter.shape, "the filter")
    check_whole("products", products, 1)
    if not filter.symmetric:
        raise ValueError("the filter's rows are normalised, and it is not symmetric; use another normalize")
    block = torch.linalg.qr(pictures.flatten(1).T.to(filter.weights))[0]
    basis, images = block[:, :0], block[:, :0]
    for _ in range(min(products, len(block) // block.shape[1])):  # as many columns as pixels span everything
        image = filter.times_kernel(block)
        basis, images = torch.cat([basis, block], 1), torch.cat([images, image], 1)
        block = image
        for _ in range(3):  # where hardly anything is left, what is must be made orthogonal once more
            block = torch.linalg.qr(block - basis @ (basis.T @ block))[0]
    inner = basis.T @ images
    values, vectors = torch.linalg.eigh((inner + inner.T) / 2)
    if not values[-1] > 0:
        raise ValueError("the filter takes all these pictures to 0, and shows nothing of itself; give others")
    return KrylovFilter(values.clamp_min(0).flip(0), (basis @ vectors).flip(1), filter.shape, normalize)


class KrylovFilter(LowRankFilter):
    """K = V diag(λ) Vᵀ with orthonormal columns V, as :func:`krylov_filter` finds them.

    Eigenvalues down to rounding are kept: after so many steps they count.
    """

    def __init__(
        self,
        values: Float[Tensor, " m"],
        vectors: Float[Tensor, "N m"],
        shape: tuple[int, int],
        normalize: Normalize,
    ) -> None:
        super().__init__(vectors * values.sqrt(), shape, normalize=normalize)
        self._values, self._vectors = values, vectors
        if normalize == "spectral":
            self.learn_scale(1.0 / float(values[0]))

    def decomposition(self, *, budget_gb: float = 4.0) -> Decomposition:
        """The eigenvalues of W, the largest first, with eigenvectors: they are at hand."""
        if not self.symmetric:
            return super().decomposition(budget_gb=budget_gb)
        check_memory(8 * self._vectors.numel(), self.shape, budget_gb)
        return Decomposition(self._values * self.scale, self._vectors, self._vectors)


def turn(before: Float[Tensor, "N m"], after: Float[Tensor, "N m"]) -> float:
    """How far a kernel, or some of its columns, turned: the sine of the angle between both.

    ::

        √(1 − cos²),   cos = ⟨A, B⟩ / ‖A‖ ‖B‖,   each column less its mean

    Scale, of either sign, and brightness do not count: 0 where one is a multiple of the other, 1 where both
    are orthogonal.

    Raises:
        ValueError: Columns of unlike shape, or all constant.
    """
    if before.shape != after.shape:
        shapes = f"{tuple(before.shape)} and {tuple(after.shape)}"
        raise ValueError(f"before and after must have the same columns, got {shapes}")
    a, b = (kernel.double() - kernel.double().mean(0) for kernel in (before, after))
    norms = float(a.norm() * b.norm())
    if norms == 0:
        raise ValueError("before or after is constant in each column, and has no angle")
    cosine = float((a * b).sum()) / norms
    return math.sqrt(max(0.0, 1.0 - cosine**2))


def detail_over_noise(
    filter: Filter,
    clean: Float[Tensor, "C H W"],
    *,
    generator: torch.Generator,
    draws: int = 8,
    spread: float = 2.0,
) -> float:
    """How many times faster a filter lets in the fine detail of a picture than white noise.

    ::

        (dᵀ W d / dᵀ d) / (mean over draws of nᵀ W n / nᵀ n),   d = x − blurred x,   n ~ N(0, I)

    Detail and noise are each less their mean. It is 1 for a filter that does not tell them apart, such as
    W = I.

    Args:
        filter: W.
        clean: x, of the filter's shape; of a filter over several channels, those one below the other, each
            channel blurred by itself.
        generator: The source of n.
        draws: How many n.
        spread: The standard deviation of the blur in pixels.

    Raises:
        PictureError: Not a picture of the filter's shape.
        ValueError: A spread that is not positive; no draw; a picture without detail, or a filter that lets in
            no noise.
    """
    from scipy.ndimage import gaussian_filter

    check_picture(clean, "clean")
    check_positive("spread", spread)
    check_whole("draws", draws, 1)
    shape = (len(clean) * clean.shape[1], clean.shape[2])
    check_shape("clean", shape, filter.shape, "the filter")
    picture = clean.detach().cpu().double()
    detail = picture - torch.from_numpy(gaussian_filter(picture.numpy(), (0, spread, spread)))
    noises = torch.randn(
        draws, *clean.shape, generator=generator, dtype=torch.float64, device=generator.device
    )
    probes = torch.cat([detail[None], noises.cpu()])
    probes = (probes - probes.mean((1, 2, 3), keepdim=True)).reshape(-1, *shape).to(clean.device)
    gains = (probes * filter.apply(probes)).sum((1, 2)) / probes.square().sum((1, 2))
    ratio = float(gains[0] / gains[1:].mean())
    if not 0 < abs(ratio) < math.inf:
        raise ValueError(f"detail over noise is {ratio}: the picture has no detail, or the filter is 0")
    return ratio


class LinearizedNetwork(nn.Module):
    """The first-order expansion of a network in its weights, around those it has now.

    ::

        f_lin(w) = f(w₀) + J (w − w₀)

    Its parameters are the moves w − w₀ of the weights that require a gradient, zero at first. Gradient
    descent on it is twicing, exactly, for any width.

    Args:
        network: The network. Its weights and other numbers are copied, and follow conversions such as
            ``.double()``; what happens to the network later changes nothing here.

    Raises:
        ValueError: No weight that requires a gradient.

    Source: Lee and others (2019) [lee2019].
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        trained, frozen = _split(network)
        self._network = [network]  # in a list, so that its weights are none of this module's
        self._base, self._frozen = _Kept(trained), _Kept(frozen)
        self.moves = nn.ParameterList(torch.zeros_like(weight) for weight in trained.values())

    def forward(self, batch: Tensor) -> Tensor:
        """f_lin, as the network itself is called."""
        base, frozen = self._base.tensors(), self._frozen.tensors()
        moves = dict(zip(base, self.moves, strict=True))
        output, change = _derivative(_function(self._network[0], frozen, batch), base, moves)
        return output + change


class _Kept(nn.Module):
    """Copies of tensors as buffers, which are converted and stored with a module, and not trained."""

    def __init__(self, tensors: Weights) -> None:
        super().__init__()
        self.names = list(tensors)
        for number, tensor in enumerate(tensors.values()):  # a buffer's name may not have the dots of theirs
            self.register_buffer(str(number), tensor.clone())

    def tensors(self) -> Weights:
        return dict(zip(self.names, self.buffers(), strict=True))


def _largest_eigenvalue(output: Tensor, product: Callable[[Tensor], Tensor]) -> float:
    """λ_max of J Jᵀ by its products, to one thousandth."""

    def matvec(vector: np.ndarray) -> np.ndarray:
        picture = torch.from_numpy(vector.reshape(output.shape)).to(output)
        return product(picture).flatten().double().cpu().numpy()

    # A fixed start makes it the same at every call; the slope, orthogonal to no eigenvector but by accident.
    start = np.linspace(1.0, 1.5, output.numel())
    if not matvec(start).any():
        raise ValueError("the tangent kernel is 0, as that of a black input is; add a constant to the input")
    return lanczos_largest(matvec, start, 8, 1e-3)


def _split(network: nn.Module) -> tuple[Weights, Weights]:
    """The weights that require a gradient, and all other numbers of the network, detached."""
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.instancenorm._InstanceNorm):
            changes = module.training and module.track_running_stats
            remedy = "make it with track_running_stats=False, or call network.eval()"
            what = "changes its running statistics"
        else:
            changes = module.training and isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0
            what, remedy = "draws anew", "call network.eval()"
        if changes:
            raise ValueError(
                f"layer {name!r} of the network ({type(module).__name__}) {what} at each call, so that there "
                f"is no one function of the weights; {remedy}"
            )
    trained = {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}
    if not trained:
        raise ValueError("no weight of the network requires a gradient, so that it has no tangent kernel")
    others = {name: p.detach() for name, p in network.named_parameters() if not p.requires_grad}
    return trained, {**others, **dict(network.named_buffers())}


def _function(network: nn.Module, frozen: Weights, batch: Tensor) -> Output:
    """The network's output as a function of its trained weights."""
    return lambda trained: functional_call(network, {**frozen, **trained}, (batch,))


def _derivative(function: Output, weights: Weights, move: Weights) -> tuple[Tensor, Tensor]:
    """f(w) and J Δw."""
    with warnings.catch_warnings():  # the first forward derivative of a process makes torch warn of itself
        warnings.simplefilter("ignore", DeprecationWarning)
        result = jvp(function, (weights,), (move,))
    return result[0], result[1]


def _kernel_products(network: nn.Module, input: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The output, (O, H, W), and the map v ↦ J Jᵀ v, with the weights of now whatever happens to them."""
    check_picture(input, "input")
    check_detached(input, "input")
    trained, frozen = ({name: w.clone() for name, w in part.items()} for part in _split(network))
    function = _function(network, frozen, input[None])
    output, pull = vjp(function, trained)[:2]

    def product(picture: Tensor) -> Tensor:
        (gradient,) = pull(picture[None])
        return _derivative(function, trained, gradient)[1][0].detach()

    return output[0].detach(), product
