"""dipfilters: the filters behind the deep image prior.

The helper package of the book, small enough to read in an evening, from top to bottom:

* **pictures** come in with :func:`load_image`, get noise from :func:`add_noise`, and are judged by
  :func:`psnr`;
* :func:`extract_patches` turns a picture into the patches around its pixels;
* a **kernel** says how alike two patches are: :func:`gaussian_kernel`, :func:`arc_cosine_kernel`,
  :func:`one_layer_tangent_kernel`;
* :class:`KernelFilter` lays a kernel over a picture as a linear filter, one row of weights a pixel, which
  its ``low_rank`` approximates by a :class:`LowRankFilter` from a few of its columns;
* one description of an **architecture**, :func:`vanilla`, :func:`autoencoder` or :func:`skip`, gives a
  network of any width by :func:`build`, and in closed form the kernels of an infinitely wide one:
  :func:`output_kernel`, :func:`tangent_kernel`, :func:`tangent_kernel_columns`, and as a filter
  :class:`TangentFilter`;
* :func:`twicing` iterates a filter on its own residual, :class:`SpectralTwicing` does so for all numbers
  of steps at once, and knows bias, variance and degrees of freedom; :func:`measured_bias_variance` measures
  the same on draws of the noise; :func:`sure`, :func:`monte_carlo_divergence` and :func:`discrepancy_stop`
  say when to stop;
* where no matrix can be stored, :class:`LanczosTwicing` does the same from a handful of products, and
  :func:`estimated_degrees_of_freedom` counts by chance;
* :func:`denoise` puts all this together for a picture of your own;
* the tangent kernel of a finite network, :func:`empirical_tangent_kernel`, :func:`tangent_product` and its
  :func:`largest_eigenvalue`; the network's first-order expansion, :class:`LinearizedNetwork`;
* :func:`train` trains a network step by step, by :class:`GradientDescent`,
  :class:`StochasticGradientDescent` or :class:`Adam`, on one input or on a :class:`StepInput` that changes
  with the step, :func:`jittered` or :func:`masked`, from which :func:`masked_estimate` makes a picture;
  :func:`weight_change` says how far the :func:`effective_weights` moved;
* :class:`WindowedVariance` says when to stop such a run, :class:`ExponentialAverage` steadies its outputs;
* :func:`load_or_run` stores what a long computation gave as a :class:`Record`, and loads it where it fits;
* :mod:`dipfilters.plots`, imported by itself, draws, and :mod:`dipfilters.figures` has figures that answer;
  :mod:`dipfilters.checks` tells a student what is wrong with an answer.

Each module imports only from those above it in this list.
"""

from dipfilters.denoising import Denoised, denoise
from dipfilters.empirical import (
    LinearizedNetwork,
    empirical_tangent_kernel,
    largest_eigenvalue,
    tangent_product,
)
from dipfilters.filters import KernelFilter, LowRankFilter, MemoryBudgetError
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
from dipfilters.lanczos import LanczosTwicing, estimated_degrees_of_freedom
from dipfilters.networks import (
    Architecture,
    ArchitectureError,
    autoencoder,
    build,
    skip,
    vanilla,
)
from dipfilters.ntk import TangentFilter, output_kernel, tangent_kernel, tangent_kernel_columns
from dipfilters.parameters import choose_device, choose_profile
from dipfilters.patches import extract_patches
from dipfilters.records import Record, RecordError, StoredSetting, load_or_run
from dipfilters.step_inputs import StepInput, grid_masks, jittered, masked, masked_estimate
from dipfilters.stopping import ExponentialAverage, WindowedVariance
from dipfilters.training import (
    Adam,
    GradientDescent,
    StochasticGradientDescent,
    TrainingStep,
    WeightChange,
    effective_weights,
    train,
    weight_change,
)
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
    "Adam",
    "Architecture",
    "ArchitectureError",
    "Denoised",
    "DivergenceError",
    "ExponentialAverage",
    "GradientDescent",
    "Kernel",
    "KernelFilter",
    "LanczosTwicing",
    "LinearizedNetwork",
    "LowRankFilter",
    "MemoryBudgetError",
    "Picture",
    "PictureError",
    "Record",
    "RecordError",
    "SpectralTwicing",
    "StepInput",
    "StochasticGradientDescent",
    "StoredSetting",
    "TangentFilter",
    "TrainingStep",
    "WeightChange",
    "WindowedVariance",
    "add_noise",
    "arc_cosine_kernel",
    "autoencoder",
    "build",
    "choose_device",
    "choose_profile",
    "denoise",
    "discrepancy_stop",
    "effective_weights",
    "empirical_tangent_kernel",
    "estimated_degrees_of_freedom",
    "extract_patches",
    "gaussian_kernel",
    "grid_masks",
    "jittered",
    "kappa0",
    "kappa1",
    "largest_eigenvalue",
    "load_image",
    "load_or_run",
    "masked",
    "masked_estimate",
    "measured_bias_variance",
    "monte_carlo_divergence",
    "one_layer_tangent_kernel",
    "output_kernel",
    "picture_path",
    "psnr",
    "skip",
    "step_grid",
    "sure",
    "tangent_kernel",
    "tangent_kernel_columns",
    "tangent_product",
    "train",
    "twicing",
    "typical_pixels",
    "vanilla",
    "weight_change",
]
