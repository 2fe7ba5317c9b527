"""dipfilters: the filters behind the deep image prior.

The helper package of the book, small enough to read in an evening, from top to bottom:

* **pictures** come in with :func:`load_image`, get noise from :func:`add_noise`, and are judged by
  :func:`psnr`;
* :func:`extract_patches` turns a picture into the patches around its pixels;
* a **kernel** says how alike two patches are: :func:`gaussian_kernel`, :func:`arc_cosine_kernel`,
  :func:`one_layer_tangent_kernel`;
* :class:`KernelFilter` lays a kernel over a picture as a linear filter, one row of weights a pixel;
* :func:`twicing` iterates a filter on its own residual, :class:`SpectralTwicing` does so for all numbers
  of steps at once, and knows bias, variance and degrees of freedom; :func:`measured_bias_variance` measures
  the same on draws of the noise; :func:`sure`, :func:`monte_carlo_divergence` and :func:`discrepancy_stop`
  say when to stop;
* :mod:`dipfilters.plots`, imported by itself, draws.

Each module imports only from those above it in this list.
"""

from dipfilters.filters import KernelFilter, MemoryBudgetError
from dipfilters.images import (
    PICTURES,
    Picture,
    PictureError,
    add_noise,
    load_image,
    picture_path,
    psnr,
    typical_pixels,
)
from dipfilters.kernels import (
    Kernel,
    arc_cosine_kernel,
    gaussian_kernel,
    kappa0,
    kappa1,
    one_layer_tangent_kernel,
)
from dipfilters.patches import extract_patches
from dipfilters.settings import choose_device, choose_profile
from dipfilters.twicing import (
    DivergenceError,
    SpectralTwicing,
    discrepancy_stop,
    measured_bias_variance,
    monte_carlo_divergence,
    step_grid,
    sure,
    twicing,
)

__all__ = [
    "PICTURES",
    "DivergenceError",
    "Kernel",
    "KernelFilter",
    "MemoryBudgetError",
    "Picture",
    "PictureError",
    "SpectralTwicing",
    "add_noise",
    "arc_cosine_kernel",
    "choose_device",
    "choose_profile",
    "discrepancy_stop",
    "extract_patches",
    "gaussian_kernel",
    "kappa0",
    "kappa1",
    "load_image",
    "measured_bias_variance",
    "monte_carlo_divergence",
    "one_layer_tangent_kernel",
    "picture_path",
    "psnr",
    "step_grid",
    "sure",
    "twicing",
    "typical_pixels",
]
