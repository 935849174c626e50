"""A scenario whose step times were measured runs on what they were measured with."""

from __future__ import annotations

from headway.api.scenario import DEFAULT_GPU, DEFAULT_MODEL, Scenario
from headway.errors import OptionError, UnknownNameError
from headway.timing import Profile, load_device, load_model


def as_measured(scenario: Scenario, profile: Profile) -> Scenario:
    """Fill in model, device and KV blocks from the profile where the scenario leaves them open.

    Names that the sheets do not know leave the scenario's own: then only KV and energy come from the sheets.

    Raises:
        OptionError: the scenario asks for another model or device than was measured.
    """
    changes: dict[str, object] = {}
    for name, default, load in (
        ("model", DEFAULT_MODEL, load_model),
        ("gpu", DEFAULT_GPU, load_device),
    ):
        measured = profile.model if name == "model" else profile.device
        asked = getattr(scenario, name)
        try:
            found = load(measured).name
        except UnknownNameError:
            continue
        if asked == default:
            changes[name] = measured
        elif load(asked).name != found:
            raise OptionError(
                f"the profile was measured with {name} {found}, not {asked}: leave out --{name}, or ask "
                "headway whatif, which scales measured times"
            )
    if profile.blocks and scenario.kv_blocks is None:
        changes["kv_blocks"] = profile.blocks
        changes["block_tokens"] = profile.block_tokens
    return scenario.at(**changes)
