"""Everything of a step's time that depends on the model and the device only, worked out once.

Operation groups of a step: linear layers, attention, output head, all-reduces, kernel overheads. A group takes
the longer of its arithmetic and its memory traffic; groups follow one another.

Source: Williams, Waterman and Patterson, "Roofline: An Insightful Visual Performance Model for Multicore
Architectures", CACM 2009, applied per group; kernel and step overheads are additive terms of ours.
"""

from __future__ import annotations

from headway.core import NS_PER_S
from headway.timing.collectives import all_gather_ns, all_reduce_ns
from headway.timing.device_sheet import DeviceSheet
from headway.timing.link import Link
from headway.timing.model_sheet import ModelSheet
from headway.timing.overlap import LayerTimes
from headway.timing.precision import precision

_ACTIVATION_BYTES = 2  # activations travel in 16 bits whatever the weights are
_ALL_REDUCES_PER_LAYER = 2


class Coefficients:
    """Nanoseconds per unit of work on one of `tp` devices. Read-only after construction."""

    __slots__ = (
        "_all_reduce_link",
        "_common_bytes",
        "_model",
        "_tp",
        "chunk_pair_ns",
        "decode_pair_ns",
        "head_flop_ns",
        "head_read_ns",
        "kernels_ns",
        "kv_token_ns",
        "linear_flop_ns",
        "weight_byte_ns",
    )

    def __init__(self, model: ModelSheet, device: DeviceSheet, tp: int, *, graphs: bool) -> None:
        self._model, self._tp = model, tp
        self._all_reduce_link: Link = (
            device.scale_up if tp <= device.max_scale_up else device.network
        )
        stored = precision(model.precision)
        per_flop = NS_PER_S / (device.peak(stored.compute) * device.compute_efficiency * tp)
        wide = "fp32" if stored.compute == "fp32" else "bf16"
        per_wide_flop = NS_PER_S / (device.peak(wide) * device.compute_efficiency * tp)
        per_byte = NS_PER_S / (device.memory_bytes_per_s * device.memory_efficiency)
        self.linear_flop_ns = 2 * model.active_block_parameters * per_flop  # per token
        self.weight_byte_ns = per_byte / tp
        self.head_flop_ns = 2 * model.head_parameters * per_wide_flop  # per row of logits
        self.head_read_ns = model.head_bytes * per_byte / tp
        decode_flops, chunk_flops = pair_flops(model)
        self.decode_pair_ns = decode_flops * per_wide_flop  # per pair and layer
        self.chunk_pair_ns = chunk_flops * per_wide_flop
        elements = model.kv_elements_per_token(tp)
        self.kv_token_ns = elements * model.kv_element_bytes * per_byte  # per token and layer
        self._common_bytes = model.common_block_bytes  # worked out once, read for every batch size
        kernels = model.layers * device.kernels_per_layer
        gap_ns = device.kernel_ns if graphs else max(device.kernel_ns, device.launch_ns)
        self.kernels_ns = float(kernels * gap_ns)

    def layers_ns(self, tokens: int) -> float:
        """All layers but their attention, for `tokens` tokens; without the output head."""
        model = self._model
        linear_ns = max(self.linear_parts_ns(tokens))
        if self._tp == 1:
            return linear_ns + self.kernels_ns
        payload = tokens * model.hidden * _ACTIVATION_BYTES
        reduce_ns = all_reduce_ns(self._all_reduce_link, self._tp, payload)
        return linear_ns + model.layers * _ALL_REDUCES_PER_LAYER * reduce_ns + self.kernels_ns

    def linear_parts_ns(self, tokens: int) -> tuple[float, float]:
        """Arithmetic and weight traffic of all linear layers for `tokens` tokens."""
        model = self._model
        read_bytes: float = self._common_bytes
        if model.experts is not None:
            hit = model.hit_experts(tokens)
            read_bytes += model.expert_layers * hit * model.expert_bytes
        return tokens * self.linear_flop_ns, read_bytes * self.weight_byte_ns

    def nano_layers(self, tokens: int, parts: int) -> LayerTimes:
        """All layers but their attention, for `tokens` tokens in `parts` equal nano-batches."""
        weights_ns = parts * self.linear_parts_ns(-(-tokens // parts))[1]
        reduces_ns = 0.0
        if self._tp > 1:
            payload = tokens / parts * self._model.hidden * _ACTIVATION_BYTES
            reduce_ns = all_reduce_ns(self._all_reduce_link, self._tp, payload)
            reduces_ns = parts * self._model.layers * _ALL_REDUCES_PER_LAYER * reduce_ns
        products_ns = max(tokens * self.linear_flop_ns, weights_ns)
        return LayerTimes(products_ns, weights_ns, reduces_ns, self.kernels_ns)

    def head_ns(self, rows: int) -> float:
        """Logits of `rows` positions, gathered from all devices; nothing when there are none."""
        if rows == 0:
            return 0.0
        product_ns = max(rows * self.head_flop_ns, self.head_read_ns)
        payload = rows * self._model.vocab * _ACTIVATION_BYTES
        return product_ns + all_gather_ns(self._all_reduce_link, self._tp, payload)


def pair_flops(model: ModelSheet) -> tuple[int, int]:
    """FLOPs of one (query, key) pair in one layer: (in a decode, in a prefill chunk).

    They differ for latent attention, which decodes in the compressed space and prefills expanded.
    """
    latent = model.latent
    if latent is None:
        flops = 4 * model.heads * model.head_size
        return flops, flops
    absorbed = 2 * model.heads * (2 * latent.kv_rank + latent.rope_size)
    expanded = 2 * model.heads * (latent.nope_size + latent.rope_size + latent.value_size)
    return absorbed, expanded
