"""How long a step takes, what fits in memory and what it costs in energy, on which model and device."""

from headway.timing.affine import Affine, Constant
from headway.timing.capacity import Capacity, kv_capacity
from headway.timing.device_library import devices, links, load_device, load_link
from headway.timing.device_sheet import DeviceSheet
from headway.timing.drafting import Drafting, blocks_beside
from headway.timing.eager_chunks import EagerChunks
from headway.timing.energy import Energy, EnergyCoefficients, energy_j
from headway.timing.hf_config import from_hf_config
from headway.timing.link import Link
from headway.timing.model_library import load_model, model_names
from headway.timing.model_sheet import Experts, Latent, ModelSheet
from headway.timing.parallelism import check_tensor_parallel, tensor_parallel_sizes
from headway.timing.recording import Recorded, Recorder
from headway.timing.roofline import Roofline
from headway.timing.work_totals import (
    Totals,
    chunk_totals,
    decode_totals,
    request_totals,
    step_weight_bytes,
)

__all__ = [
    "Affine",
    "Capacity",
    "Constant",
    "DeviceSheet",
    "Drafting",
    "EagerChunks",
    "Energy",
    "EnergyCoefficients",
    "Experts",
    "Latent",
    "Link",
    "ModelSheet",
    "Recorded",
    "Recorder",
    "Roofline",
    "Totals",
    "blocks_beside",
    "check_tensor_parallel",
    "chunk_totals",
    "decode_totals",
    "devices",
    "energy_j",
    "from_hf_config",
    "kv_capacity",
    "links",
    "load_device",
    "load_link",
    "load_model",
    "model_names",
    "request_totals",
    "step_weight_bytes",
    "tensor_parallel_sizes",
]
