"""Read a GGUF file: its metadata at once, its tensors one by one, from memory maps.

Nothing in it is believed: each size and offset is held against the file's length before anything is read or
allocated by it.

The `gguf` package describes the format and dequantises; its reader makes two numpy objects for every entry of
an array, which takes 11 s on a vocabulary of 262 144 pieces, so the header is walked here.
A file may lie in parts, as package indexes limit the size of one; parts are mapped, never joined on disk.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
MOST_AXES = 4  # as ggml has it
MOST_ALIGNMENT = 1 << 20
THREADS = 2
MANY_PIECES = 64  # of a tensor, before they are shared out
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

_PLAIN = {
    GGMLQuantizationType.F32: np.dtype(np.float32),
    GGMLQuantizationType.F16: np.dtype(np.float16),
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
        try:
            self._maps = [_mapped(path) for path in paths]
        except OSError as error:
            message = (
                f"{error.filename} cannot be opened ({error.strerror}): check path and permissions"
            )
            raise ModelFileError(message) from error
        self._parts = [np.frombuffer(mapped, np.uint8) for mapped in self._maps]
        self._ends = list(accumulate(len(part) for part in self._parts))
        try:
            self.metadata, self.tensors = _Header(self._parts[0], self.name).read()
        except (struct.error, IndexError, UnicodeDecodeError, OverflowError) as error:
            message = f"{self.name} is damaged or ends inside its header: download it again"
            raise ModelFileError(message) from error
        self._check_extents()

    def _check_extents(self) -> None:
        """Tensors lie inside the file and never over each other."""
        reached, before = 0, ""
        for name, info in sorted(self.tensors.items(), key=lambda item: item[1].offset):
            if info.offset + info.size > self._ends[-1]:
                message = (
                    f"{self.name} has {self._ends[-1]} bytes, but tensor {name!a:.80} ends at byte"
                    f" {info.offset + info.size}: download it again"
                )
                raise ModelFileError(message)
            if info.offset < reached and info.size:
                message = f"{self.name}: tensors {before!a:.80} and {name!a:.80} overlap: download it again"
                raise ModelFileError(message)
            reached, before = info.offset + info.size, name

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
        value = self.metadata.get(key, default)
        return value if isinstance(value, str) else default

    def dequantise(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return tensor `name` as fp32, of the shape the model's configuration implies."""
        out = np.empty(shape, np.float32)

        def put(start: int, rows: NDArray[np.float32]) -> None:
            part = out[start : start + len(rows)]
            part[...] = rows.reshape(part.shape)

        self.pour(name, shape, put)
        return out

    def pour(
        self, name: str, shape: tuple[int, ...], put: Callable[[int, NDArray[np.float32]], None]
    ) -> None:
        """Dequantise piece by piece: `put` gets (first row, rows), of large tensors from several threads at once."""
        info, undo = self._stored(name, shape)
        data = self._bytes(info).reshape(shape[0], -1)
        stride = max(1, ROWS_BYTES // (4 * math.prod(shape[1:])))
        starts = range(0, shape[0], stride)

        def piece(start: int) -> None:
            put(start, undo(data[start : start + stride]))

        if len(starts) < MANY_PIECES:
            deque(map(piece, starts), maxlen=0)
        else:
            with ThreadPoolExecutor(THREADS) as pool:
                deque(pool.map(piece, starts), maxlen=0)

    def rows(
        self, name: str, shape: tuple[int, ...]
    ) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
        """Return a function that dequantises some rows of a matrix; the file stays mapped for it."""
        info, undo = self._stored(name, shape)
        size = info.size // shape[0]

        def read(ids: NDArray[np.int64]) -> NDArray[np.float32]:
            stored = b"".join(self._span(info.offset + row * size, size) for row in ids.tolist())
            return undo(np.frombuffer(stored, np.uint8).reshape(len(ids), size))

        return read

    def forget(self) -> None:
        """Let the system take back the pages read so far; what is read again comes from its cache."""
        for mapped in self._maps:
            if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
                mapped.madvise(mmap.MADV_DONTNEED)

    def _stored(
        self, name: str, shape: tuple[int, ...]
    ) -> tuple[TensorInfo, Callable[[NDArray[np.uint8]], NDArray[np.float32]]]:
        """Return where a tensor lies, and what makes fp32 of its rows as they are stored."""
        info = self.tensors.get(name)
        if info is None:
            message = f"{self.name} lacks tensor {name}: it is not a complete text model"
            raise ModelFileError(message)
        if info.shape != shape:
            message = f"{self.name}: tensor {name} is {info.shape}, the metadata implies {shape}"
            raise ModelFileError(message)
        plain = _PLAIN.get(info.kind)
        if plain is not None:
            return info, lambda rows: rows.view(plain).astype(np.float32)
        quant = getattr(quants, info.kind.name, None)
        if quant is None:
            message = (
                f"{self.name}: tensor {name} is {info.kind.name}, which the gguf package cannot"
                " dequantise: give a file of another quantisation, Q4_K_M or Q8_0"
            )
            raise ModelFileError(message)
        quant.init_grid()
        return info, quant.dequantize_rows

    def _span(self, start: int, size: int) -> bytes:
        """Read a few bytes, which may lie across parts."""
        part = bisect_right(self._ends, start)
        at = start - self._ends[part] + len(self._maps[part])
        found = bytes(self._maps[part][at : at + size])
        return (
            found
            if len(found) == size
            else found + self._span(start + len(found), size - len(found))
        )

    def _bytes(self, info: TensorInfo) -> NDArray[np.uint8]:
        pieces, start, stop = [], info.offset, info.offset + info.size
        for part, end in zip(self._parts, self._ends, strict=True):
            begin = end - len(part)
            if start < end and begin < stop:
                pieces.append(part[max(0, start - begin) : stop - begin])
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            message = f"{path} is empty: download the model again"
            raise ModelFileError(message)
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


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
        for _ in range(entries):  # each takes some bytes: a lying count runs into the end
            key = self._string()
            metadata[key] = self._value(self._take("<I")[0])
        infos = [self._tensor() for _ in range(tensors)]
        base = -(-self._at // (alignment := self._alignment(metadata))) * alignment
        found = {name: info._replace(offset=base + info.offset) for name, info in infos}
        if len(found) < len(infos):
            message = f"{self._name} names a tensor twice: download it again"
            raise ModelFileError(message)
        return metadata, found

    def _alignment(self, metadata: dict[str, Value]) -> int:
        alignment = metadata.get("general.alignment", GGUF_DEFAULT_ALIGNMENT)
        if (
            not isinstance(alignment, int)
            or not 1 <= alignment <= MOST_ALIGNMENT
            or alignment & (alignment - 1)
        ):
            message = (
                f"{self._name} says general.alignment={str(alignment)[:40]}, possible are powers of two"
                f" up to {MOST_ALIGNMENT}: download it again"
            )
            raise ModelFileError(message)
        return alignment

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
        values = np.frombuffer(self._data[self._at : self._at + size], form)
        self._at += size
        return values

    def _tensor(self) -> tuple[str, TensorInfo]:
        name = self._string()
        (axes,) = self._take("<I")
        if not 1 <= axes <= MOST_AXES:
            message = (
                f"{self._name}: tensor {name!a:.80} has {axes} axes, possible are 1 to {MOST_AXES}:"
                " download it again"
            )
            raise ModelFileError(message)
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
        if shape[-1] % block:
            message = (
                f"{self._name}: tensor {name!a:.80} has rows of {shape[-1]}, {quantisation.name} has"
                f" blocks of {block}: download it again"
            )
            raise ModelFileError(message)
        return name, TensorInfo(quantisation, shape, offset, math.prod(shape) // block * size)
