"""Put a scenario together: model, device, policies, instances and workload, ready to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headway.api.measured_with import as_measured
from headway.api.policy_choices import Choice, choose, label_of, options_by_kind
from headway.api.pools import pools_of
from headway.api.rejections import Rejections
from headway.api.scenario import NO_PARTS, Parts, Scenario
from headway.api.slo_text import parse_slos
from headway.api.topology_of import topology_of
from headway.api.workload_of import rate_of, requests_of, workload_of
from headway.core import NS_PER_S, Variant
from headway.core.protocols import Batching, TimingModel, Workload
from headway.metrics import Recorder
from headway.runtime import InstanceOptions
from headway.runtime.loader import KINDS
from headway.runtime.traits import logit_rows_of, step_tokens_of
from headway.sim import Acceptance
from headway.timing import (
    DeviceSheet,
    Drafting,
    Linked,
    ModelSheet,
    Roofline,
    blocks_beside,
    kv_capacity,
    load_device,
    load_link,
    load_model,
    load_profile,
)
from headway.worlds import Policies, SimulatedPool, Simulation


@dataclass(frozen=True, slots=True)
class Assembled:
    """A run that has not begun. `config` holds every option as it was resolved, ready for JSON."""

    scenario: Scenario
    simulation: Simulation
    workload: Workload
    sink: Rejections
    model: ModelSheet
    device: DeviceSheet
    kv_tokens: int  # that one instance holds
    config: Mapping[str, Any]
    modelled: bool  # step times come from the sheets of `model` and `device`
    devices: int  # of all instances

    @property
    def recorder(self) -> Recorder:
        """Where the run will be recorded."""
        return self.sink.recorder


def assemble(scenario: Scenario, parts: Parts = NO_PARTS) -> Assembled:
    """Build everything a scenario names.

    Raises:
        UnknownNameError: no such model, device, policy or option.
        DoesNotFitError: no room for KV beside the weights; names what would do.
        OptionError: an impossible value, such as a tensor parallel size that splits no heads.
        WorkloadError: a trace that cannot be read.
    """
    profile = None if scenario.profile is None else load_profile(scenario.profile)
    if profile is not None:
        scenario = as_measured(scenario, profile)
    model = load_model(scenario.model, scenario.precision)
    device = load_device(scenario.gpu)
    choices = _choices(scenario, parts)
    step_tokens = step_tokens_of(choices["batching"].sample)
    written, measured = pools_of(scenario), parts.timing or profile
    topology = topology_of(scenario, written, device)
    pools: list[SimulatedPool] = []
    for pool in written:
        when = measured or _timing(scenario, model, device, pool.tp)
        room = _blocks(scenario, model, device, pool.tp, choices["batching"].sample)
        for _ in range(pool.instances):
            mine = when
            if topology is not None:
                block_bytes = _block_bytes(scenario, model, pool.tp)
                mine = Linked(when, f"i{len(pools)}", topology, block_bytes)
            pools.append(SimulatedPool(1, pool.role, mine, room))
    blocks = min(pool.blocks or 0 for pool in pools)
    kv_tokens = blocks * scenario.block_tokens
    timing = measured or _timing(scenario, model, device, scenario.tp)
    slos = parse_slos(scenario.slo)
    workload = parts.workload or workload_of(scenario, slos, min(model.max_context, kv_tokens))
    sink = Rejections(Recorder())
    interval_s = scenario.report_interval_s
    simulation = Simulation(
        timing,
        _policies(choices),
        InstanceOptions(
            blocks=blocks,
            block_tokens=scenario.block_tokens,
            prefix_cache=scenario.prefix_cache,
            variant=Variant(model.name, model.precision, scenario.quality or {}),
        ),
        sink,
        pools=pools,
        report_interval_ns=None if interval_s is None else round(interval_s * NS_PER_S),
        seed=scenario.seed,
        acceptance=_acceptance(scenario),
        bandwidth=None if topology is None else topology.bytes_per_s,
    )
    resolved = {"step_tokens": step_tokens, "kv_blocks": blocks, "kv_tokens": kv_tokens}
    resolved["instances"] = sum(pool.instances for pool in written)
    config = _config(scenario, parts, choices, model, device) | resolved
    return Assembled(
        scenario, simulation, workload, sink, model, device, kv_tokens, config,
        modelled=measured is None, devices=sum(pool.instances * pool.tp for pool in written),
    )  # fmt: skip


def _policies(choices: Mapping[str, Choice]) -> Policies:
    return Policies(
        choices["batching"].make,
        choices["ordering"].make,
        choices["memory"].make,
        choices["routing"].make(),
        choices["admission"].make(),
        choices["speculation"].make,
        choices["control"].make(),
    )


def _timing(scenario: Scenario, model: ModelSheet, device: DeviceSheet, tp: int) -> TimingModel:
    link = None if scenario.link is None else load_link(scenario.link)
    target = Roofline(model, device, tp, block_tokens=scenario.block_tokens, peer_link=link)
    if scenario.draft_model is None:
        return target
    return Drafting(target, load_model(scenario.draft_model), device, tp)


def _block_bytes(scenario: Scenario, model: ModelSheet, tp: int) -> int:
    """KV of a block on one device, the drafter's included."""
    token_bytes = model.kv_bytes_per_token(tp)
    if scenario.draft_model is not None:
        token_bytes += load_model(scenario.draft_model).kv_bytes_per_token(tp)
    return scenario.block_tokens * token_bytes


def _acceptance(scenario: Scenario) -> Acceptance | None:
    if scenario.acceptance is None:
        return None
    return Acceptance(scenario.acceptance, scenario.acceptance_spread, scenario.seed)


def _blocks(
    scenario: Scenario, model: ModelSheet, device: DeviceSheet, tp: int, batching: Batching
) -> int:
    capacity = kv_capacity(
        model,
        device,
        tp,
        step_tokens=step_tokens_of(batching),
        memory_utilisation=scenario.memory_utilisation,
        block_tokens=scenario.block_tokens,
        sequences=logit_rows_of(batching),
    )
    if scenario.kv_blocks is not None:
        return scenario.kv_blocks
    if scenario.draft_model is None:
        return capacity.blocks
    return blocks_beside(capacity, load_model(scenario.draft_model), tp)


def labels(scenario: Scenario, parts: Parts = NO_PARTS) -> dict[str, str]:
    """Kind -> what the chosen policy is called in tables."""
    return {kind: choice.label for kind, choice in _choices(scenario, parts).items()}


def _choices(scenario: Scenario, parts: Parts) -> dict[str, Choice]:
    chosen: dict[str, object] = {
        kind: parts.policies.get(kind, getattr(scenario, kind)) for kind in KINDS
    }
    names = {kind: label_of(name) for kind, name in chosen.items() if isinstance(name, str)}
    options = options_by_kind(scenario.options, names)
    return {kind: choose(kind, chosen[kind], options[kind]) for kind in KINDS}


def _config(
    scenario: Scenario,
    parts: Parts,
    choices: Mapping[str, Choice],
    model: ModelSheet,
    device: DeviceSheet,
) -> dict[str, Any]:
    config = scenario.echo() | {
        "model": model.name,
        "gpu": device.name,
        "precision": model.precision,
    }
    config |= {kind: choice.label for kind, choice in choices.items()}
    config["options"] = {
        f"{kind}.{option}": value
        for kind, choice in choices.items()
        for option, value in choice.options.items()
    }
    config["timing"] = "roofline" if scenario.profile is None else f"profile {scenario.profile}"
    if parts.timing is not None:
        config["timing"] = type(parts.timing).__name__
    if parts.workload is not None:
        config["workload"] = type(parts.workload).__name__
        config |= dict.fromkeys(("rate_rps", "requests", "slo"))
    else:
        config["workload"] = "trace" if scenario.trace is not None else "conversation_like"
        if scenario.sessions:
            config["workload"] = "sessions"
        config["requests"] = requests_of(scenario)
        config["rate_rps"] = None if scenario.concurrency is not None else _nominal(scenario)
    return config


def _nominal(scenario: Scenario) -> float | None:
    """The rate that was asked for; a trace at its own speed was asked for none."""
    if scenario.trace is not None and scenario.rate_rps is None:
        return None
    return rate_of(scenario)
