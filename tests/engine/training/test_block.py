"""The trained residual layer: its values match the reference, and its gradient matches its values."""

from __future__ import annotations

import pytest
import torch

from engine.kernels import reference
from engine.training.block import residual_block
from tests.support.tolerances import TOLERANCES, relative_error

SIZES = [(1, 24, 4), (3, 17, 1), (2, 5, 8)]  # batch, length, dilation; the outer taps of the last see only padding


def inputs(batch: int, length: int, constant: bool = True) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(7)
    C = 4
    shapes = [(length * batch, C), (batch, C), (1 if constant else length, batch, 2 * C), (2 * C, C, 3), (2 * C, C)]
    return [
        torch.randn(shape, generator=random, dtype=torch.float64, requires_grad=True) * 0.7
        for shape in [*shapes, (2 * C,)]
    ]


@pytest.mark.parametrize(("batch", "length", "dilation"), SIZES)
@pytest.mark.parametrize("constant", [True, False], ids=["a label's row", "a mel's rows"])
def test_values_match_the_reference(batch: int, length: int, dilation: int, constant: bool) -> None:
    x, d, conditioner, dilated, projection, bias = inputs(batch, length, constant)
    results = residual_block(x, d, conditioner, dilated, projection, bias, dilation, torch.float64)
    conditioner_by_item = conditioner.expand(length, -1, -1).permute(1, 2, 0)
    h = x.view(length, batch, -1).permute(1, 2, 0)
    no_bias = torch.zeros(len(dilated), dtype=torch.float64)
    weight = projection[:, :, None]
    expected = reference.residual_block(h, conditioner_by_item, d, dilated, no_bias, weight, bias, dilation)
    for result, by_item in zip(results, expected, strict=True):
        rows = by_item.permute(2, 0, 1).reshape(length * batch, -1)
        assert relative_error(result.detach(), rows.detach()) < TOLERANCES["reference_float64"]


@pytest.mark.parametrize(("batch", "length", "dilation"), SIZES)
@pytest.mark.parametrize("constant", [True, False], ids=["a label's row", "a mel's rows"])
def test_gradient_matches_the_values(batch: int, length: int, dilation: int, constant: bool) -> None:
    leaves = [tensor.detach().requires_grad_() for tensor in inputs(batch, length, constant)]
    assert torch.autograd.gradcheck(lambda *tensors: residual_block(*tensors, dilation, torch.float64), leaves)


def test_bfloat16_is_close_to_float32() -> None:
    tensors = [tensor.detach().float() for tensor in inputs(2, 40)]
    exact, rounded = (residual_block(*tensors, 2, dtype) for dtype in (torch.float32, torch.bfloat16))
    assert rounded[0].dtype == torch.float32
    for result, expected in zip(rounded, exact, strict=True):
        assert 0 < relative_error(result.float(), expected) < TOLERANCES["operation_bf16"]
