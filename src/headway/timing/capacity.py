"""How many KV blocks fit beside the weights.

Follows what serving engines do at start: a share of the device's memory, less the weights, less the largest
intermediate tensors of a full step, less the runtime's own context. The rest becomes blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from headway.errors import DoesNotFitError, OptionError
from headway.timing.device_library import devices
from headway.timing.device_sheet import DeviceSheet
from headway.timing.model_sheet import ModelSheet
from headway.timing.parallelism import check_tensor_parallel, tensor_parallel_sizes

_GB = 1e9
_ACTIVATION_BYTES = 2
_LOGIT_BYTES = 2 + 3 * 4  # 16-bit logits, and three 32-bit copies while sampling
_RESIDUALS = 4  # hidden-sized tensors alive beside the widest intermediate


@dataclass(frozen=True, slots=True)
class Capacity:
    """Memory of one device, in bytes, and the blocks an instance gets from it."""

    blocks: int
    block_tokens: int
    block_bytes: int  # on one device, all layers
    weight_bytes: int
    activation_bytes: int
    context_bytes: int
    available_bytes: int  # all that headway may use, weights included

    @property
    def kv_bytes(self) -> int:
        """Bytes of all blocks."""
        return self.blocks * self.block_bytes

    @property
    def tokens(self) -> int:
        """Tokens that all blocks hold."""
        return self.blocks * self.block_tokens


def kv_capacity(
    model: ModelSheet,
    device: DeviceSheet,
    tp: int = 1,
    *,
    step_tokens: int,
    memory_utilisation: float = 0.9,
    block_tokens: int = 16,
    sequences: int = 256,
) -> Capacity:
    """Count the blocks of one instance. Windowed layers get whole blocks too, as all sequences share a table.

    `step_tokens` and at most `sequences` rows of logits bound the intermediate tensors.

    Raises:
        OptionError: an impossible `tp`, share or size.
        DoesNotFitError: not one block is left; names a `tp` or a device that would do.
    """
    check_tensor_parallel(model, tp)
    if not 0 < memory_utilisation <= 1:
        raise OptionError(
            f"memory utilisation is {memory_utilisation}: give a share above 0 and at most 1"
        )
    for name, value in (("step_tokens", step_tokens), ("block_tokens", block_tokens)):
        if value < 1:
            raise OptionError(f"{name} is {value}: use at least 1")
    settings = _Settings(step_tokens, memory_utilisation, block_tokens, sequences)
    capacity = settings.on(model, device, tp)
    if capacity.blocks >= 1:
        return capacity
    raise DoesNotFitError(_explain(model, device, tp, settings, capacity))


@dataclass(frozen=True, slots=True)
class _Settings:
    step_tokens: int
    memory_utilisation: float
    block_tokens: int
    sequences: int

    def on(self, model: ModelSheet, device: DeviceSheet, tp: int) -> Capacity:
        available = int(device.usable_bytes * self.memory_utilisation)
        weights = -(-model.weight_bytes // tp)
        activations = self._activation_bytes(model, tp)
        block_bytes = self.block_tokens * model.kv_bytes_per_token(tp)
        left = available - weights - activations - device.context_bytes
        return Capacity(
            blocks=max(0, left // block_bytes) if block_bytes else 0,
            block_tokens=self.block_tokens,
            block_bytes=block_bytes,
            weight_bytes=weights,
            activation_bytes=activations,
            context_bytes=device.context_bytes,
            available_bytes=available,
        )

    def _activation_bytes(self, model: ModelSheet, tp: int) -> int:
        """The larger of a layer's intermediates and the logits, for the largest step."""
        inner = model.ffn
        if model.experts is not None:
            routed = model.experts.top_k * model.experts.ffn + model.experts.shared_ffn
            inner = max(inner if model.experts.dense_layers else 0, routed)
        width = (3 if model.gated else 2) * inner / tp + _RESIDUALS * model.hidden
        layer = self.step_tokens * width * _ACTIVATION_BYTES
        logits = min(self.step_tokens, self.sequences) * model.vocab * _LOGIT_BYTES / tp
        return math.ceil(max(layer, logits))


def _explain(
    model: ModelSheet, device: DeviceSheet, tp: int, settings: _Settings, capacity: Capacity
) -> str:
    needed = (
        capacity.weight_bytes
        + capacity.activation_bytes
        + capacity.context_bytes
        + capacity.block_bytes
    )
    larger = next(
        (
            size
            for size in tensor_parallel_sizes(model)
            if tp < size <= device.max_scale_up and settings.on(model, device, size).blocks >= 1
        ),
        None,
    )
    fitting = [other for other in devices().values() if settings.on(model, other, tp).blocks >= 1]
    if larger is not None:
        advice = f"use tensor parallel {larger}"
    elif fitting:
        smallest = min(fitting, key=lambda other: other.memory_bytes)
        advice = f"use a device like {smallest.name}"
    else:
        advice = "use a smaller number format, or more devices of a larger kind"
    return (
        f"{model.name} ({model.precision}) with tensor parallel {tp} needs "
        f"{needed / _GB:.1f} GB on each {device.name}, which has "
        f"{capacity.available_bytes / _GB:.1f} GB at memory utilisation "
        f"{settings.memory_utilisation:g}: {advice}"
    )
