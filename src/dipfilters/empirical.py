"""The tangent kernel of a network as it is: of finite width, with its present weights.

With the output z = f(w) as one long vector and J = ∂z/∂w, the tangent kernel is J Jᵀ. It depends on the
weights, and changes while they are trained; its limit for infinite width is that of ``ntk``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, jvp, vjp

from dipfilters.filters import check_memory, lanczos_largest
from dipfilters.images import check_detached, check_picture, check_shape, pixel_numbers

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
    output, product = _kernel_products(network, input)

    def matvec(vector: np.ndarray) -> np.ndarray:
        picture = torch.from_numpy(vector.reshape(output.shape)).to(output)
        return product(picture).flatten().double().cpu().numpy()

    # A fixed start makes it the same at every call; the slope, orthogonal to no eigenvector but by accident.
    start = np.linspace(1.0, 1.5, output.numel())
    if not matvec(start).any():
        raise ValueError("the tangent kernel is 0, as that of a black input is; add a constant to the input")
    return lanczos_largest(matvec, start, 8, 1e-3)


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


def _split(network: nn.Module) -> tuple[Weights, Weights]:
    """The weights that require a gradient, and all other numbers of the network, detached."""
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
    """The output, (O, H, W), and the map v ↦ J Jᵀ v."""
    check_picture(input, "input")
    check_detached(input, "input")
    trained, frozen = _split(network)
    function = _function(network, frozen, input[None])
    output, pull = vjp(function, trained)[:2]

    def product(picture: Tensor) -> Tensor:
        (gradient,) = pull(picture[None])
        return _derivative(function, trained, gradient)[1][0].detach()

    return output[0].detach(), product
