"""NanoFlow: throughput of one instance whose operators overlap (Zhu et al., OSDI 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from headway.api import Scenario
from headway.api.runner import run
from headway.api.scenario import Parts
from headway.core.protocols import Workload
from headway.reproductions.experiment import Experiment
from headway.timing import Roofline, load_device, load_model
from headway.workload import AtOnce, Fixed, Independent, LogNormal, Synthetic

BASE = Scenario(model="llama-2-70b", gpu="a100", tp=8)
DENSE = 2048
REQUESTS = 1500
SARATHI = {"sarathi.token_budget": DENSE, "sarathi.max_num_seqs": DENSE}


def _long(seed: int) -> Workload:
    """Everything at once, 1024 and 512 tokens in the mean: the paper's constant lengths, spread."""
    shapes = Independent(LogNormal.of(900, 1024, most=8000), LogNormal.of(450, 512, most=4000))
    return Synthetic(AtOnce(), shapes, REQUESTS, seed)


def _alone(seed: int) -> Workload:
    """One request that only decodes."""
    return Synthetic(AtOnce(), Independent(Fixed(16), Fixed(512)), 1, seed)


def _throughput(
    seed: int,
    *,
    batching: str = "nanoflow",
    options: Mapping[str, Any] | None = None,
    null: bool = False,
    shares: tuple[float, float] | None = None,
) -> float:
    """`shares`: of the processors, that kernels which wait for memory and for the network take."""
    scenario = BASE.at(batching=batching, options=options or {}, seed=seed)
    timing = None
    if shares is not None:
        memory, network = shares
        device = replace(
            load_device(BASE.gpu), memory_kernel_share=memory, network_kernel_share=network
        )
        timing = Roofline(load_model(BASE.model), device, BASE.tp)
    parts = Parts(timing=timing, workload=_alone(seed) if null else _long(seed))
    return float(run(scenario, parts).summary["total_token_throughput"])


def _share_of_optimal(seed: int) -> float:
    """Of FLOP/s / (2 · active parameters), with the datasheet's FLOP/s."""
    flops = BASE.tp * load_device(BASE.gpu).peak("bf16")
    optimal = flops / (2 * load_model(BASE.model).active_block_parameters)
    return _throughput(seed) / optimal


EXPERIMENT = Experiment(
    ours=_throughput,
    baseline=partial(_throughput, batching="sarathi", options=SARATHI),
    strong=partial(_throughput, options={"nanoflow.nano_batches": 1}),
    null_ours=partial(_throughput, null=True, options={"nanoflow.least_tokens": 1}),
    null_baseline=partial(_throughput, batching="sarathi", options=SARATHI, null=True),
    higher_is_better=True,
    setup="llama-2-70b on 8 A100, 1500 requests at once of 1024 and 512 tokens in the mean, steps of 2048 tokens; "
    "total token throughput from the first arrival to the last token",
    null_setup="one request that decodes alone, nano-batches asked for at any size",
    ablations={
        "share_of_optimal": _share_of_optimal,
        "cut_without_overlap": partial(_throughput, shares=(1.0, 1.0)),
        "no_contention": partial(_throughput, shares=(0.001, 0.001)),
    },
    differs=(
        "the baseline is chunked prefill with the same batch, memory and step overhead, not another code base",
        "kernels that wait for memory or network take a fixed share of the processors from the products",
        "the strong baseline is this very system without nano-batches",
    ),
)
