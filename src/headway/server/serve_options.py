"""What an operator asks of `serve`, as plain data. `plan_service` finds out whether it can be had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headway.core.request import NO_SLO, Slo
from headway.host.spec import LIVE

DEFAULT_PORT = 8000
SERVED_KINDS = ("batching", "ordering", "memory", "speculation", "routing", "admission")
"""Kinds of policies that a server chooses; `control` moves sequences between processes, which hosts cannot."""

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """One field a flag. Policies are names, `pkg.mod:Class` or files; `options` is "kind.option" -> value."""

    model: str = (
        "embedded"  # a directory or .gguf file; in the simulated world a sheet's name or file
    )
    served_name: str | None = None
    world: str = LIVE
    gpu: str = "h100"
    precision: str | None = None
    tp: int = 1
    profile: str | None = None
    sim_output_tokens: int = 0
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    api_keys: tuple[str, ...] = ()
    open_metrics: bool = False
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    max_num_queued_reqs: int | None = None
    block_tokens: int = 16
    kv_bytes: int | None = None
    kv_blocks: int | None = None
    dtype: str = "auto"
    threads: int = 0
    seed: int = 0
    chat_template: str | None = None
    prefix_cache: bool = True
    share_prefixes: bool = False
    instances: int = 1
    batching: str = "sarathi"
    ordering: str = "fcfs"
    memory: str = "recompute"
    speculation: str = "none"
    draft_model: str | None = None  # as `model`; None: drafts are looked up in the text
    routing: str = "least_work"
    admission: str = "bounded_queue"
    options: Mapping[str, str] = field(default_factory=dict)
    slo: Slo = NO_SLO
    shutdown_timeout_s: float = 30.0
    run_log: str | None = None
    enable_log_requests: bool = False
