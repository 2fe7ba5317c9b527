"""What must hold of everything that is a Filter: a test class that each kind of filter subclasses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from dipfilters import PictureError
from dipfilters.filters import Filter, MemoryBudgetError
from tests.samples import generator, picture, refused

NORMALIZE: list[Any] = ["rows", "spectral", 0.01]
every_normalisation = pytest.mark.parametrize("normalize", NORMALIZE)


class FilterContract:
    """A subclass says how to make its filter of the picture ``image``, and what its kernel matrix is.

    Attributes:
        image: What the filter is made from.
        tolerance: Of an entry of W, relative to the largest one, and of a product W v, relative to λ_max ‖v‖:
            float64 sums of N ≤ 117 products.
    """

    image = picture(3, 9, 8)
    tolerance = 1e-12

    def make(self, normalize: Any) -> Filter:
        raise NotImplementedError

    def kernel(self) -> np.ndarray:
        """K, from elsewhere than the filter."""
        raise NotImplementedError

    def matrix(self, normalize: Any) -> torch.Tensor:
        """W, by the definition."""
        K = self.kernel()
        if normalize == "rows":
            return torch.from_numpy(K / K.sum(1, keepdims=True))
        factor = 1 / np.linalg.eigvalsh(K)[-1] if normalize == "spectral" else normalize
        return torch.from_numpy(factor * K)

    def close(self, found: torch.Tensor, expected: torch.Tensor, unit: float | None = None) -> bool:
        unit = float(expected.abs().max()) if unit is None else unit
        return (
            found.shape == expected.shape and float((found - expected).abs().max()) <= self.tolerance * unit
        )

    @every_normalisation
    def test_the_matrix_is_the_normalised_kernel(self, normalize):
        filter = self.make(normalize)
        W = filter.dense()
        assert W.dtype == torch.float64
        assert self.close(W, self.matrix(normalize))
        assert filter.symmetric == (normalize != "rows")
        if normalize == "spectral":
            assert float(torch.linalg.eigvalsh(W)[-1]) == pytest.approx(1.0, abs=max(1e-9, self.tolerance))
        if normalize == "rows":
            assert float((W.sum(1) - 1).abs().max()) < max(1e-12, self.tolerance)

    @every_normalisation
    def test_rows_and_columns_are_those_of_the_matrix(self, normalize):
        """Before the matrix is there, and after."""
        filter, W = self.make(normalize), self.matrix(normalize)
        height, width = filter.shape
        pixels = [(0, 0), (height - 1, width - 1), (height // 2, 1)]
        numbers = [r * width + c for r, c in pixels]
        for _ in range(2):
            assert self.close(filter.columns(pixels), W[:, numbers], float(W.abs().max()))
            for pixel, number in zip(pixels, numbers, strict=True):
                assert self.close(filter.row(pixel).flatten(), W[number], float(W.abs().max()))
            filter.dense()

    @every_normalisation
    def test_products_are_those_of_the_matrix_for_each_picture_of_a_stack(self, normalize):
        filter, W = self.make(normalize), self.matrix(normalize)
        stack = picture(6, *filter.shape, seed=1).reshape(2, 3, *filter.shape)
        noise = torch.randn(stack.shape, generator=generator(2), dtype=torch.float64)
        largest = float(torch.linalg.matrix_norm(W, 2))
        for pictures in (stack, noise):
            expected = (pictures.reshape(6, -1) @ W.T).reshape(stack.shape)
            unit = largest * float(pictures.flatten(2).norm(dim=2).max())
            assert self.close(filter.apply(pictures), expected, unit)
        both = filter.apply(2 * stack - 3 * noise)
        assert self.close(both, 2 * filter.apply(stack) - 3 * filter.apply(noise), 20 * unit)

    @every_normalisation
    def test_the_form_and_the_decomposition_lead_back_to_the_matrix(self, normalize):
        """W = D^(−1/2) A D^(1/2) with a symmetric A; W = R diag(λ) Lᵀ with Lᵀ R = I."""
        filter = self.make(normalize)
        W = filter.dense()
        A, weights = filter.symmetric_form()
        unit = float(W.abs().max())
        assert float((A - A.T).abs().max()) <= self.tolerance * unit
        root = weights.sqrt()
        assert float((A * root[None] / root[:, None] - W).abs().max()) <= 1e-12 * unit
        values, left, right = filter.decomposition()
        assert bool((values.diff() <= 0).all())
        assert torch.allclose(left.T @ right, torch.eye(len(values), dtype=W.dtype), rtol=0, atol=1e-8)
        assert float((right * values @ left.T - W).abs().max()) <= max(1e-8, self.tolerance) * unit

    @every_normalisation
    def test_the_type_is_kept_and_nothing_given_is_changed(self, normalize):
        """float32 is rounded once, on the way out."""
        before = self.image.clone()
        filter = self.make(normalize)
        y = picture(1, *filter.shape, dtype=torch.float32)
        seen = y.clone()
        found = filter.apply(y)
        assert found.dtype == torch.float32
        assert float((found.double() - filter.apply(y.double())).abs().max()) <= 2**-24 * float(found.max())
        filter.row((2, 2)).zero_()
        filter.columns([(1, 1)]).zero_()
        filter.dense().zero_()
        filter.symmetric_form().matrix.zero_()
        assert torch.equal(filter.apply(y), found)
        assert torch.equal(y, seen)
        assert torch.equal(self.image, before)

    @every_normalisation
    def test_the_gradient_is_the_product_with_the_transpose(self, normalize):
        filter, W = self.make(normalize), self.matrix(normalize)
        y = picture(2, *filter.shape, seed=1).requires_grad_()
        c = torch.randn(y.shape, generator=generator(3), dtype=torch.float64)
        (gradient,) = torch.autograd.grad((filter.apply(y) * c).sum(), y, create_graph=True)
        unit = float(torch.linalg.matrix_norm(W, 2)) * float(c.norm())
        assert self.close(gradient.detach(), (c.reshape(2, -1) @ W).reshape(c.shape), unit)
        (twice,) = torch.autograd.grad(filter.apply(filter.apply(y)).sum(), y)
        ones = torch.ones(len(W), dtype=torch.float64)
        assert self.close(twice[0].flatten(), ones @ W @ W, float(torch.linalg.matrix_norm(W, 2)) ** 2 * 11)

    def test_what_does_not_fit_is_refused(self):
        filter = self.make(0.01)
        height, width = filter.shape
        for wrong in (picture(1, width + 1, height), picture(1, 1, height * width), torch.ones(width)):
            with refused(PictureError, "picture must have the shape of the filter"):
                filter.apply(wrong)
        with refused(PictureError, "picture must hold floats .*uint8; divide bytes by 255"):
            filter.apply(torch.zeros(1, height, width, dtype=torch.uint8))
        with refused(PictureError, "picture holds .* values that are NaN or infinite"):
            filter.apply(torch.full((1, height, width), math.nan))
        for pixel in ((height, 0), (0, width), (-1, 0), (0, -1)):
            for call in (lambda p=pixel: filter.row(p), lambda p=pixel: filter.columns([p])):
                with refused(IndexError, "lies outside the picture of"):
                    call()

    @pytest.mark.parametrize("normalize", ["row", 0.0, -1.0, math.nan, math.inf])
    def test_no_normalisation_is_refused(self, normalize):
        with refused(ValueError, "normalize as a (word must be one of 'rows', 'spe|number must be positive)"):
            self.make(normalize)

    def test_what_is_over_its_budget_is_refused_and_a_budget_that_is_none(self):
        filter = self.make(0.01)
        calls = {
            "dense": lambda budget: filter.dense(budget_gb=budget),
            "form": lambda budget: filter.symmetric_form(budget_gb=budget),
            "decomposition": lambda budget: filter.decomposition(budget_gb=budget),
            "columns": lambda budget: filter.columns([(0, 0), (1, 1)], budget_gb=budget),
            "low rank": lambda budget: filter.low_rank(3, generator=generator(0), budget_gb=budget),
        }
        for call in calls.values():
            with refused(MemoryBudgetError, r"this takes .* GB for .* pixels, over budget_gb = 1e-09; use"):
                call(1e-9)
            for none in (0.0, -1.0, math.nan, math.inf):
                with refused(ValueError, f"budget_gb must be positive and finite, got {none}"):
                    call(none)
        size = 8 * len(filter.dense()) ** 2 / 1e9
        assert filter.dense(budget_gb=size).shape == filter.dense().shape
