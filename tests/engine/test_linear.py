from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from headway.engine.architecture import Activation
from headway.engine.linear import FeedForward, Linear, native_dtype

CLOSE = {torch.float32: 1e-5, torch.bfloat16: 0.02, torch.float16: 0.005}
TYPES = sorted({torch.float32, torch.float16, native_dtype()}, key=str)  # fp16: the plain way


def drawn(*shape: int, seed: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def near(found: torch.Tensor, expected: torch.Tensor) -> bool:
    error = (found.float() - expected).abs().max() / expected.abs().max()
    return bool(error < CLOSE[found.dtype])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("rows", [0, 1, 2, 3, 4, 7])
def test_products_of_any_number_of_rows(rows: int, dtype: torch.dtype) -> None:
    weight, given = (
        drawn(48, 32, seed=1, dtype=dtype),
        drawn(max(rows, 1), 32, seed=2, dtype=dtype)[:rows],
    )
    found = Linear(weight)(given)
    assert found.shape == (rows, 48)
    assert found.dtype == dtype
    assert not rows or near(found, given.float() @ weight.float().T)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("activation", ["gelu_tanh", "silu"])
@pytest.mark.parametrize("rows", [1, 3, 9])
def test_a_fused_feed_forward_computes_what_its_parts_do(
    rows: int, activation: Activation, dtype: torch.dtype
) -> None:
    gate_up, down = drawn(80, 32, seed=1, dtype=dtype) / 4, drawn(32, 40, seed=2, dtype=dtype) / 4
    given = drawn(rows, 32, seed=3, dtype=dtype)
    gate, up = (given.float() @ gate_up.float().T).chunk(2, -1)
    active = F.silu(gate) if activation == "silu" else F.gelu(gate, approximate="tanh")
    found = FeedForward(gate_up, down, activation)(given)
    assert near(found, (active * up) @ down.float().T)


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    dtype = native_dtype()
    linear = Linear(drawn(48, 32, seed=1, dtype=dtype))
    rows = drawn(4, 32, seed=2, dtype=dtype)
    others = rows.clone()
    others[1:] = 1e4
    assert torch.equal(linear(rows)[0], linear(others)[0])
