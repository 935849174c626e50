"""Weights from a GGUF file, dequantised tensor by tensor, two layers at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headway.checkpoint.gguf_file import GgufFile
from headway.engine.architecture import Architecture
from headway.engine.embedding import FileRows
from headway.engine.weights import LayerNames, LayerWeights, Source, Weights, stack_layer

LOADERS = 2  # numpy lets go of the interpreter; more would only hold more copies at once

INTERLEAVED = frozenset({"llama"})  # families whose converter makes neighbours of a pair's two rows


def weights_from_gguf(
    file: GgufFile, config: Architecture, dtype: torch.dtype = torch.float32
) -> Weights:
    """Dequantise the model; its layers as they are read, rows of the embedding as steps need them.

    Raises:
        ModelFileError: a tensor is missing, of another shape, or quantised in a way numpy cannot undo;
            for layers, when they are read.
    """

    def norm(name: str, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(file.dequantise(name, shape))

    def matrix(name: str, shape: tuple[int, ...]) -> Tensor:
        out = torch.empty(shape, dtype=dtype)

        def put(start: int, rows: NDArray[np.float32]) -> None:
            out[start : start + len(rows)] = torch.from_numpy(rows).view(-1, *shape[1:])

        file.pour(name, shape, put)
        return out

    across = _halves if config.family in INTERLEAVED else _as_they_are
    source = Source(matrix, norm, across)
    name, table = "token_embd.weight", (config.vocabulary, config.hidden)
    return Weights(
        embedding=FileRows(file.rows(name, table), partial(matrix, name, table), dtype),
        final=norm("output_norm.weight", (config.hidden,)),
        layers=_read_ahead(config, source),
        head=None if config.tied else matrix("output.weight", table),
    )


def _read_ahead(config: Architecture, source: Source) -> Iterator[LayerWeights]:
    """Load the next layers while the caller works on one."""
    pending: deque[Future[LayerWeights]] = deque()
    with ThreadPoolExecutor(LOADERS) as pool:
        try:
            for index in range(config.layers):
                pending.append(pool.submit(stack_layer, config, _names(index), source))
                if len(pending) > LOADERS:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _halves(rows: Tensor, heads: int) -> Tensor:
    """Put the first rows of all pairs before the second ones, as this model rotates them."""
    pairs = rows.view(heads, -1, 2, *rows.shape[1:])  # (heads, D / 2, 2, ...)
    return pairs.transpose(1, 2).reshape(rows.shape)


def _as_they_are(rows: Tensor, _heads: int) -> Tensor:
    return rows


def _names(layer: int) -> LayerNames:
    def name(part: str) -> str:
        return f"blk.{layer}.{part}"

    return LayerNames(
        before_attention=name("attn_norm"),
        after_attention=name("post_attention_norm"),
        before_ffn=name("ffn_norm"),
        after_ffn=name("post_ffw_norm"),
        query=name("attn_q"),
        key=name("attn_k"),
        value=name("attn_v"),
        query_norm=name("attn_q_norm"),
        key_norm=name("attn_k_norm"),
        out=name("attn_output"),
        gate=name("ffn_gate"),
        up=name("ffn_up"),
        down=name("ffn_down"),
    )
