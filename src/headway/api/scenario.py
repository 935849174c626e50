"""Everything that defines a simulated run, as plain data: two equal scenarios give equal results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypedDict

from headway.api.slo_text import DEFAULT_SLO
from headway.core.protocols import TimingModel, Workload
from headway.errors import OptionError, UnknownNameError
from headway.workload import DEFAULT_MAX_TOKENS

DEFAULT_MODEL, DEFAULT_GPU = "llama-3.1-8b", "h100"
DEFAULT_RATE_RPS = 5.53
DEFAULT_REQUESTS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What runs on what, under which policies, for whom. Serialisable; objects go into `Parts`.

    Policies are names, `pkg.mod:Class` or files. `options` sets theirs: `batching.token_budget` or
    `sarathi.token_budget`. Without a trace, requests are like conversations. `rate_rps` is the offered
    rate, of a trace too (then it is sped up or slowed down); `rate_scale` multiplies it. With a `profile`,
    model, gpu and KV blocks that are not given are those it was measured with.
    """

    model: str = DEFAULT_MODEL
    gpu: str = DEFAULT_GPU
    precision: str | None = None  # of the weights; None: as the model is published
    tp: int = 1
    instances: int = 1
    roles: str | None = (
        None  # pools in place of `instances`: prefill:2,decode:2, with @N their own tp
    )
    link: str | None = None  # over which KV moves between instances; None: the device's network
    nodes: int | None = None  # each role's instances dealt out to so many; None: `link` joins all
    node_link: str | None = None  # likewise inside a node; None: the device's own, such as NVLink
    batching: str = "sarathi"
    ordering: str = "fcfs"
    memory: str = "recompute"
    speculation: str = "none"
    routing: str = "least_work"
    admission: str = "unbounded"
    control: str = "none"
    options: Mapping[str, Any] = field(default_factory=dict)
    slo: tuple[str, ...] = (DEFAULT_SLO,)
    trace: str | None = None
    rate_rps: float | None = None
    requests: int | None = None  # None: the whole trace, or 1000
    rate_scale: float = 1.0
    loop: bool = False  # start the trace again until there are enough requests
    loop_reuse: bool = False  # ... with the same prefixes
    cv: float | None = None  # coefficient of variation of the gaps between arrivals; 1 is Poisson
    sessions: bool = False  # conversations of several turns; rate and requests count sessions
    concurrency: int | None = None  # a closed loop of so many users
    tenants: int = 0  # 0: those of the trace, or one
    tenant_skew: float = 1.0  # shares 1, 2^-skew, 3^-skew, …; 0 is equal shares
    max_tokens: int = DEFAULT_MAX_TOKENS  # the clients' cap on output
    prefix_cache: bool = True
    block_tokens: int = 16
    kv_blocks: int | None = None  # per instance; None: what fits beside the weights
    report_interval_s: float | None = None  # None: instances are not asked, the router counts
    memory_utilisation: float = 0.9
    draft_model: str | None = None  # drafts on the target's devices; None: drafts cost nothing
    acceptance: float | None = None  # chance that a draft token is right; None: any count alike
    acceptance_spread: float = 0.0  # ... and its standard deviation among requests
    profile: str | None = None  # file of measured step times; None: the roofline of the sheets
    quality: Mapping[str, float] | None = None  # benchmark -> score of the variant, where known
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what no run could mean. What needs the model or the trace is checked by `assemble`."""
        if isinstance(self.slo, str):
            object.__setattr__(self, "slo", (self.slo,))
        for name in ("rate_rps", "rate_scale", "cv", "report_interval_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise OptionError(f"{name} is {value}: give a number above 0")
        least = {"tp": 1, "instances": 1, "requests": 1, "concurrency": 1, "tenants": 0}
        least |= {"max_tokens": 1, "block_tokens": 1, "kv_blocks": 1, "nodes": 1}
        for name, limit in least.items():
            value = getattr(self, name)
            if value is not None and value < limit:
                raise OptionError(f"{name} is {value}: give {limit} or more")
        if self.acceptance_spread and self.acceptance is None:
            raise OptionError("acceptance_spread needs an acceptance to spread about: give one")
        if self.node_link is not None and self.nodes is None:
            raise OptionError(
                f"node_link {self.node_link!r} joins instances of one node: say how many nodes"
            )
        self._check_workload()

    def _check_workload(self) -> None:
        if self.trace is None and (self.loop or self.loop_reuse):
            raise OptionError("loop starts a trace again: give a trace, or leave loop out")
        if (self.loop or self.loop_reuse) and self.requests is None:
            raise OptionError("loop has no end by itself: say how many requests")
        if self.trace is not None and (self.sessions or self.cv is not None):
            what = "sessions" if self.sessions else "cv"
            raise OptionError(
                f"{what} shapes a synthetic workload, not a trace: leave out one of them"
            )
        if self.concurrency is not None and (self.rate_rps is not None or self.rate_scale != 1.0):
            raise OptionError(
                f"concurrency {self.concurrency} is a closed loop, which has no rate: leave out one of them"
            )

    def at(self, **changes: Any) -> Scenario:
        """The same, with some fields changed."""
        return replace(self, **changes)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Scenario:
        """Make one of keywords.

        Raises:
            UnknownNameError: no such option; lists the nearest.
            OptionError: an impossible value.
        """
        known = [item.name for item in fields(cls)]
        for name in options:
            if name not in known:
                raise UnknownNameError.among("option", name, known)
        return cls(**options)

    def echo(self) -> dict[str, Any]:
        """All fields as a dict ready for JSON, in a fixed order."""
        told = asdict(self)
        told["options"] = {name: self.options[name] for name in sorted(self.options)}
        told["slo"] = list(self.slo)
        return told


class ScenarioOptions(TypedDict, total=False):
    """Keywords of `simulate` and `compare`: the fields of `Scenario` but the policies."""

    model: str
    gpu: str
    precision: str | None
    tp: int
    instances: int
    roles: str | None
    link: str | None
    nodes: int | None
    node_link: str | None
    options: Mapping[str, Any]
    slo: str | tuple[str, ...]
    trace: str | None
    rate_rps: float | None
    requests: int | None
    rate_scale: float
    loop: bool
    loop_reuse: bool
    cv: float | None
    sessions: bool
    concurrency: int | None
    tenants: int
    tenant_skew: float
    max_tokens: int
    prefix_cache: bool
    block_tokens: int
    kv_blocks: int | None
    report_interval_s: float | None
    memory_utilisation: float
    draft_model: str | None
    acceptance: float | None
    acceptance_spread: float
    profile: str | None
    quality: Mapping[str, float] | None
    seed: int


@dataclass(frozen=True, slots=True)
class Parts:
    """Objects that take the place of what a scenario names. They must pickle to be used with jobs.

    A policy is a class, a factory without arguments, or an object, which is copied for each instance.
    A workload object starts anew with each `offers()`; it brings its own SLOs.
    """

    timing: TimingModel | None = None
    workload: Workload | None = None
    policies: Mapping[str, object] = field(default_factory=dict)  # kind -> class, factory or object


NO_PARTS = Parts()
