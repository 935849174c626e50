"""Read a GGUF file: its metadata at once, its tensors one by one, from memory maps.

The `gguf` package describes the format and dequantises; its reader makes two numpy objects for every entry of
an array, which takes 11 s on a vocabulary of 262 144 pieces, so the header is walked here.
A file may lie in parts, as package indexes limit the size of one; parts are mapped, never joined on disk.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
from gguf import quants
from gguf.constants import (
    GGML_QUANT_SIZES,
    GGUF_DEFAULT_ALIGNMENT,
    GGUF_MAGIC,
    GGMLQuantizationType,
    GGUFValueType,
)
from numpy.typing import NDArray

from headway.errors import ModelFileError

Value = int | float | bool | str | list[str] | NDArray[np.generic]

VERSIONS = (2, 3)
ROWS_BYTES = 1 << 20  # dequantised at a time: small enough to stay in the cache

_SCALARS = {
    GGUFValueType.UINT8: "<u1",
    GGUFValueType.INT8: "<i1",
    GGUFValueType.UINT16: "<u2",
    GGUFValueType.INT16: "<i2",
    GGUFValueType.UINT32: "<u4",
    GGUFValueType.INT32: "<i4",
    GGUFValueType.UINT64: "<u8",
    GGUFValueType.INT64: "<i8",
    GGUFValueType.FLOAT32: "<f4",
    GGUFValueType.FLOAT64: "<f8",
    GGUFValueType.BOOL: "?",
}


class TensorInfo(NamedTuple):
    """Where a tensor lies, in bytes from the start of the file. `shape` is row-major, as numpy has it."""

    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    offset: int
    size: int


class GgufFile:
    """Metadata and tensors of one GGUF file.

    Raises:
        ModelFileError: not a GGUF file, of an unknown version, or shorter than its header says.
    """

    def __init__(self, parts: Path | Sequence[Path]) -> None:
        paths = [parts] if isinstance(parts, Path) else list(parts)
        self.name = str(paths[0])
        for path in paths:
            if not path.is_file() or not path.stat().st_size:
                message = f"{path} is not there or empty: download the model again"
                raise ModelFileError(message)
        self._parts = [np.memmap(path, np.uint8, "r") for path in paths]
        self._ends = list(accumulate(len(part) for part in self._parts))
        try:
            self.metadata, self.tensors = _Header(self._parts[0], self.name).read()
        except (struct.error, IndexError, UnicodeDecodeError, OverflowError) as error:
            message = f"{self.name} ends inside its header: download it again"
            raise ModelFileError(message) from error
        for name, info in self.tensors.items():
            if info.offset + info.size > self._ends[-1]:
                message = (
                    f"{self.name} has {self._ends[-1]} bytes, but tensor {name} ends at byte"
                    f" {info.offset + info.size}: download it again"
                )
                raise ModelFileError(message)

    def number(self, key: str, default: float | None = None) -> float:
        """Return a metadata number."""
        value = self.metadata.get(key, default)
        if isinstance(value, (int, float)):
            return value
        message = (
            f"{self.name} has no number {key!r}: convert the model again with a current llama.cpp"
        )
        raise ModelFileError(message)

    def text(self, key: str, default: str = "") -> str:
        """Return a metadata string."""
        return str(self.metadata.get(key, default))

    def dequantise(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return tensor `name` as fp32, of the shape the model's configuration implies."""
        info = self.tensors.get(name)
        if info is None:
            message = f"{self.name} lacks tensor {name}: it is not a complete Gemma-3 text model"
            raise ModelFileError(message)
        if info.shape != shape:
            message = f"{self.name}: tensor {name} is {info.shape}, the metadata implies {shape}"
            raise ModelFileError(message)
        data = self._bytes(info)
        if info.kind is GGMLQuantizationType.F32:
            return data.view(np.float32).reshape(shape).copy()
        quant = getattr(quants, info.kind.name, None)
        if info.kind is GGMLQuantizationType.F16:
            return data.view(np.float16).reshape(shape).astype(np.float32)
        if quant is None:
            message = (
                f"{self.name}: tensor {name} is {info.kind.name}, which cannot be dequantised here"
            )
            raise ModelFileError(message)
        quant.init_grid()
        rows = data.reshape(shape[0], -1)
        out = np.empty(shape, np.float32)
        stride = max(1, ROWS_BYTES // (4 * math.prod(shape[1:])))
        for start in range(0, shape[0], stride):
            out[start : start + stride] = quant.dequantize_rows(rows[start : start + stride])
        return out

    def _bytes(self, info: TensorInfo) -> NDArray[np.uint8]:
        pieces, start, stop = [], info.offset, info.offset + info.size
        for part, end in zip(self._parts, self._ends, strict=True):
            begin = end - len(part)
            if start < end and begin < stop:
                pieces.append(part[max(0, start - begin) : stop - begin])
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


class _Header:
    """A cursor over the header; whatever runs past the end raises and is reported as truncation."""

    def __init__(self, data: NDArray[np.uint8], name: str) -> None:
        self._data = data.data
        self._name = name
        self._at = 0

    def read(self) -> tuple[dict[str, Value], dict[str, TensorInfo]]:
        magic, version, tensors, entries = self._take("<IIQQ")
        if magic != GGUF_MAGIC or version not in VERSIONS:
            message = (
                f"{self._name} is not a GGUF file of version {' or '.join(map(str, VERSIONS))}:"
                " give a .gguf file made by a current llama.cpp"
            )
            raise ModelFileError(message)
        metadata: dict[str, Value] = {}
        for _ in range(entries):
            key = self._string()
            metadata[key] = self._value(self._take("<I")[0])
        infos = [self._tensor() for _ in range(tensors)]
        alignment = int(metadata.get("general.alignment", GGUF_DEFAULT_ALIGNMENT))
        base = -(-self._at // alignment) * alignment
        return metadata, {name: info._replace(offset=base + info.offset) for name, info in infos}

    def _take(self, form: str) -> tuple[int, ...]:
        values = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return values

    def _string(self) -> str:
        (size,) = self._take("<Q")
        start = self._at
        self._at = stop = start + size
        if stop > len(self._data):
            raise IndexError
        return str(self._data[start:stop], "utf-8")

    def _value(self, kind: int) -> Value:
        if kind == GGUFValueType.STRING:
            return self._string()
        if kind == GGUFValueType.ARRAY:
            item, count = self._take("<IQ")
            if item == GGUFValueType.STRING:
                return [self._string() for _ in range(count)]
            return self._numbers(item, count)
        value: int | float | bool = self._numbers(kind, 1)[0].item()
        return value

    def _numbers(self, kind: int, count: int) -> NDArray[np.generic]:
        form = (
            _SCALARS.get(GGUFValueType(kind))
            if kind in GGUFValueType.__members__.values()
            else None
        )
        if form is None:
            message = f"{self._name} has a metadata value of type {kind}, unknown to GGUF: download it again"
            raise ModelFileError(message)
        size = np.dtype(form).itemsize * count
        if self._at + size > len(self._data):
            raise IndexError
        values = np.frombuffer(self._data, form, count, self._at)
        self._at += size
        return values

    def _tensor(self) -> tuple[str, TensorInfo]:
        name = self._string()
        (axes,) = self._take("<I")
        shape = tuple(reversed(self._take(f"<{axes}Q")))
        kind, offset = self._take("<IQ")
        try:
            quantisation = GGMLQuantizationType(kind)
        except ValueError as error:
            message = (
                f"{self._name}: tensor {name} has quantisation {kind}, unknown to this gguf package"
            )
            raise ModelFileError(message) from error
        block, size = GGML_QUANT_SIZES[quantisation]
        return name, TensorInfo(quantisation, shape, offset, math.prod(shape) // block * size)
