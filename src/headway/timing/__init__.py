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
from headway.timing.profile import load_profile, profile_text, save_profile
from headway.timing.profile_changed import Rescaled, Scattered
from headway.timing.profile_model import KindFit, Pieces, Profile
from headway.timing.recording import Recorded, Recorder
from headway.timing.roofline import Roofline
from headway.timing.topology import Linked, Topology
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
    "KindFit",
    "Latent",
    "Link",
    "Linked",
    "ModelSheet",
    "Pieces",
    "Profile",
    "Recorded",
    "Recorder",
    "Rescaled",
    "Roofline",
    "Scattered",
    "Topology",
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
    "load_profile",
    "model_names",
    "profile_text",
    "request_totals",
    "save_profile",
    "step_weight_bytes",
    "tensor_parallel_sizes",
]
