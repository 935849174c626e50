"""The live world: a PyTorch executor on a loaded model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from headway.clocks.wall import WallClock
from headway.engine.executor import TorchExecutor
from headway.engine.linear import native_dtype
from headway.engine.load import LoadedModel, load, load_embedded
from headway.errors import OptionError
from headway.host.spec import HostSpec
from headway.host.world import OnLayer, World
from headway.timing.profile import load_profile

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def open_live(spec: HostSpec, on_layer: OnLayer) -> Callable[[WallClock], World]:
    """Load the weights, those of a draft model first.

    Raises:
        HeadwayError: there are none, or they cannot be read; or the profile is of another model.
    """
    profile = load_profile(spec.profile) if spec.profile else None
    dtype = native_dtype() if spec.dtype == "auto" else DTYPES.get(spec.dtype)
    if dtype is None:
        raise OptionError(f"dtype is {spec.dtype!r}: choose auto, {', '.join(DTYPES)}")
    if spec.threads:
        torch.set_num_threads(spec.threads)
    draft = _load(spec.draft_model, dtype).model if spec.draft_model else None
    model = _load(spec.model, dtype, on_layer)
    layers = model.model.config.layers
    if profile is not None and profile.layers != layers:
        raise OptionError(
            f"{spec.profile} is of a model with {profile.layers} layers, {model.name} has {layers}: "
            "calibrate on a run log of this model"
        )

    def on(clock: WallClock) -> World:
        executor = TorchExecutor(
            clock,
            model.model,
            blocks=spec.blocks,
            block_tokens=spec.block_tokens,
            stops=() if spec.ignore_eos else model.stops,
            threads=spec.threads or None,
            draft=draft,
        )
        name = str(dtype).removeprefix("torch.")
        return World(model.name, "cpu", name, executor, close=executor.close, timing=profile)

    return on


def _load(model: str, dtype: torch.dtype, on_layer: OnLayer | None = None) -> LoadedModel:
    if model == "embedded":
        return load_embedded(dtype, on_layer)
    return load(Path(model), dtype, on_layer)
