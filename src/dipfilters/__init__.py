"""dipfilters: the filters behind the deep image prior.

The helper package of the book. Its core can be read in an evening, from top to bottom; each module knows only
those above it in this list:

* :mod:`~dipfilters.parameters`: the device and the size of a run, and numbers within their bounds;
* :mod:`~dipfilters.decoding`: a separate part, see below;
* :mod:`~dipfilters.images`: a picture comes in with :func:`load_image`, or from another library by
  :func:`as_picture`, gets noise from :func:`add_noise`, and is judged by :func:`psnr`;
* :mod:`~dipfilters.patches`: :func:`extract_patches` turns a picture into the patches around its pixels;
* :mod:`~dipfilters.kernels`: how alike two patches are, :func:`gaussian_kernel`, :func:`arc_cosine_kernel`,
  :func:`one_layer_tangent_kernel`;
* :mod:`~dipfilters.engines`: a separate part, see below;
* :mod:`~dipfilters.filters`: :class:`KernelFilter` makes a kernel over a picture a linear filter, one row of
  weights a pixel, and approximates it from a few of its columns;
* :mod:`~dipfilters.shift_invariant`, a separate part: a Gaussian blur and the Wiener filter, beside which
  every other filter must show what it is worth;
* :mod:`~dipfilters.networks`: one description of an architecture, :func:`vanilla`, :func:`autoencoder`,
  :func:`skip`, or the hour-glass of the deep image prior, gives a network of any width by :func:`build`;
* :mod:`~dipfilters.ntk`: the same description gives the kernel of an infinitely wide network in closed form,
  :func:`tangent_kernel`, and as a filter, :class:`TangentFilter`;
* :mod:`~dipfilters.twicing`: :func:`twicing` iterates a filter on its own residual. :class:`SpectralTwicing`
  does so for all numbers of steps at once, and knows bias, variance and degrees of freedom, which
  :func:`measured_bias_variance` measures on draws of the noise; :func:`sure`, with its
  :func:`monte_carlo_divergence`, and :func:`discrepancy_stop` say when to stop;
* :mod:`~dipfilters.circulant`, a separate part: fed with noise, a network's filter repeats over the picture;
  :class:`NoiseFedFilter` and :class:`CirculantTwicing` take it apart by a Fourier transform, at the size of a
  photograph;
* :mod:`~dipfilters.lanczos`: :class:`LanczosTwicing` does the same from a handful of products where no matrix
  can be stored, and :func:`~dipfilters.lanczos.estimated_degrees_of_freedom` counts by chance;
* :mod:`~dipfilters.inverse`, a separate part: twicing behind a measurement, with pixels missing, averaged or
  blurred;
* :mod:`~dipfilters.denoising`: :func:`denoise` puts all this together for a picture of your own;
* :mod:`~dipfilters.empirical`, of a separate part, trained networks: the tangent kernel of a network of
  finite width, :func:`empirical_tangent_kernel`, :func:`~dipfilters.empirical.tangent_product`,
  :func:`largest_eigenvalue`, also as a filter, and how far it turned; its first-order expansion,
  :class:`LinearizedNetwork`;
* :mod:`~dipfilters.step_inputs`, of a separate part: inputs that change during a training run,
  :func:`jittered` and :func:`masked`, from which :func:`masked_estimate` makes a picture;
* :mod:`~dipfilters.training`, of a separate part: :func:`train` trains a network step by step, by
  :class:`GradientDescent`, :class:`StochasticGradientDescent` or :class:`Adam`, with measures and looks on
  the way; :func:`weight_change` says how far the :func:`effective_weights` moved;
* :mod:`~dipfilters.stopping`, of a separate part: :class:`WindowedVariance` says when to stop such a run,
  :class:`ExponentialAverage` steadies its outputs;
* :mod:`~dipfilters.provenance`: which code, on which machine, made a result;
* :mod:`~dipfilters.plots`, imported by itself, draws;
* :mod:`~dipfilters.figures`: a separate part, see below;
* :mod:`~dipfilters.checks`: a separate part, see below;
* :mod:`~dipfilters.picture_files`: a separate part, see below;
* :mod:`~dipfilters.__main__`: a separate part, see below.

The core goes from a picture to the denoised one, with provenance and plots, in under 2,200 lines of code.
The other parts you can skip until you need them: ``decoding`` reads files of any kind; ``engines``
multiplies with kernels that nobody stores, and says again, for speed, what the core says plainly;
``shift_invariant`` holds baselines, ``circulant`` the filter with which chapter 5 ends, and ``inverse`` what
chapter 9 needs; the four modules of trained networks are for chapters 6 to 8; ``figures`` holds the
interactive figures; ``checks`` tells a student what is wrong with an answer; ``picture_files`` and
``__main__`` are the shell command that denoises a picture file.
"""

from dipfilters.circulant import CirculantTwicing as CirculantTwicing
from dipfilters.circulant import NoiseFedFilter as NoiseFedFilter
from dipfilters.decoding import PictureError as PictureError
from dipfilters.decoding import as_picture as as_picture
from dipfilters.denoising import denoise as denoise
from dipfilters.empirical import LinearizedNetwork as LinearizedNetwork
from dipfilters.empirical import empirical_tangent_kernel as empirical_tangent_kernel
from dipfilters.empirical import largest_eigenvalue as largest_eigenvalue
from dipfilters.filters import KernelFilter as KernelFilter
from dipfilters.images import add_noise as add_noise
from dipfilters.images import load_image as load_image
from dipfilters.images import psnr as psnr
from dipfilters.images import typical_pixels as typical_pixels
from dipfilters.kernels import Kernel as Kernel
from dipfilters.kernels import arc_cosine_kernel as arc_cosine_kernel
from dipfilters.kernels import gaussian_kernel as gaussian_kernel
from dipfilters.kernels import kappa0 as kappa0
from dipfilters.kernels import kappa1 as kappa1
from dipfilters.kernels import one_layer_tangent_kernel as one_layer_tangent_kernel
from dipfilters.lanczos import LanczosTwicing as LanczosTwicing
from dipfilters.networks import autoencoder as autoencoder
from dipfilters.networks import build as build
from dipfilters.networks import skip as skip
from dipfilters.networks import vanilla as vanilla
from dipfilters.ntk import TangentFilter as TangentFilter
from dipfilters.ntk import tangent_kernel as tangent_kernel
from dipfilters.parameters import choose_device as choose_device
from dipfilters.parameters import choose_profile as choose_profile
from dipfilters.patches import extract_patches as extract_patches
from dipfilters.step_inputs import jittered as jittered
from dipfilters.step_inputs import masked as masked
from dipfilters.step_inputs import masked_estimate as masked_estimate
from dipfilters.stopping import ExponentialAverage as ExponentialAverage
from dipfilters.stopping import WindowedVariance as WindowedVariance
from dipfilters.training import Adam as Adam
from dipfilters.training import GradientDescent as GradientDescent
from dipfilters.training import StochasticGradientDescent as StochasticGradientDescent
from dipfilters.training import effective_weights as effective_weights
from dipfilters.training import train as train
from dipfilters.training import weight_change as weight_change
from dipfilters.twicing import SpectralTwicing as SpectralTwicing
from dipfilters.twicing import discrepancy_stop as discrepancy_stop
from dipfilters.twicing import measured_bias_variance as measured_bias_variance
from dipfilters.twicing import monte_carlo_divergence as monte_carlo_divergence
from dipfilters.twicing import step_grid as step_grid
from dipfilters.twicing import sure as sure
from dipfilters.twicing import twicing as twicing
