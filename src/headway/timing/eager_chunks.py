"""A roofline whose prompts are launched kernel by kernel, unless their step has a captured shape.

Servers capture decodes as graphs, since a decode's shape is its batch size. Prompts come in too many shapes, so the
host launches their kernels one after the other; only prompts padded to a shape that was captured are spared that.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

from headway.core import Step, Work
from headway.timing.device_sheet import DeviceSheet
from headway.timing.model_sheet import ModelSheet
from headway.timing.roofline import Roofline


class EagerChunks(Roofline):
    """Adds the time by which launching is slower than the kernels to steps with a prompt without `Work.pad_to`."""

    def __init__(self, model: ModelSheet, device: DeviceSheet, tp: int = 1) -> None:
        super().__init__(model, device, tp)
        slower_ns = max(0, device.launch_ns - device.kernel_ns)
        self.launch_ns = device.kernels_per_layer * slower_ns  # a layer

    def durations_ns(self, step: Step, repeats: int) -> list[int]:
        """As the roofline has them, and what is launched."""
        durations = super().durations_ns(step, repeats)
        launched_ns = self._eager_layers(step.work[len(step.decodes) :]) * self.launch_ns
        return [ns + launched_ns for ns in durations] if launched_ns else durations

    def chunk_time_ns(self, tokens: int, context_tokens: int = 0) -> int:
        """Of a chunk without padding."""
        return super().chunk_time_ns(tokens, context_tokens) + self.layers * self.launch_ns

    def _eager_layers(self, works: Seq[Work]) -> int:
        eager = [w.layers for w in works if w.pad_to is None and not w.sequence.decodes]
        spans = [last - first for first, last in (span or (0, self.layers) for span in eager)]
        return max(spans, default=0)
