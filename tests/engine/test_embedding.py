from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from headway.checkpoint.gguf_file import GgufFile
from headway.engine.embedding import FileRows, Table, as_embedding

ROWS, WIDTH = 300, 64


@pytest.fixture(params=["Q8_0", "F16", "F32"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> GgufFile:
    """A matrix in a file that was cut into parts in the middle of rows."""
    kind = gguf.GGMLQuantizationType[request.param]
    numbers = np.random.default_rng(3).standard_normal((ROWS, WIDTH), np.float32)
    writer = gguf.GGUFWriter(tmp_path / "whole.gguf", "gemma3")
    writer.add_tensor("table", gguf.quants.quantize(numbers, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    whole = (tmp_path / "whole.gguf").read_bytes()
    cuts = [0, len(whole) - 7001, len(whole) - 3003, len(whole)]
    parts = []
    for number, (start, stop) in enumerate(pairwise(cuts)):
        parts.append(tmp_path / f"part{number}")
        parts[-1].write_bytes(whole[start:stop])
    return GgufFile(parts)


def test_rows_of_a_file_are_those_of_the_whole_table(file: GgufFile) -> None:
    shape = (ROWS, WIDTH)
    table = torch.from_numpy(file.dequantise("table", shape))
    rows = FileRows(file.rows("table", shape), lambda: table, torch.float32)
    ids = torch.tensor([5, 5, *range(ROWS), 5])
    assert torch.equal(rows.rows(ids), Table(table).rows(ids))
    file.forget()  # its pages come back when they are needed
    assert torch.equal(rows.rows(ids), table[ids])
    assert rows.table() is table
    assert rows.bytes == 0


def test_a_plain_tensor_is_an_embedding() -> None:
    table = torch.arange(12.0).view(4, 3)
    embedding = as_embedding(table)
    assert embedding.rows(torch.tensor([2, 0])).tolist() == [[6, 7, 8], [0, 1, 2]]
    assert (embedding.bytes, embedding.dtype) == (48, torch.float32)
    assert as_embedding(embedding) is embedding
