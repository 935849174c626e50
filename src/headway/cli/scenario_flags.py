"""The flags that `simulate` and `compare` share: everything that describes a scenario.

Not `from __future__ import annotations`: typer reads the annotations of functions put together here.
"""

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

if TYPE_CHECKING:
    from headway.api import Scenario

_POLICY = "Name, pkg.mod:Class or file.py[:Class]"


# The signatures of the next five functions are the flags; they are never called.


def _deployment_flags(
    *,
    model: Annotated[
        str, Option(help="Model: bundled name, config.json, folder or sheet.")
    ] = "llama-3.1-8b",
    gpu: Annotated[
        str, Option("--gpu", "--device", help="Device: bundled name, alias or sheet.toml.")
    ] = "h100",
    precision: Annotated[
        str | None, Option(help="Number format of the weights, such as fp8.")
    ] = None,
    tp: Annotated[
        str, Option(metavar="N", help="Tensor parallel size: devices per instance.")
    ] = "1",
    instances: Annotated[
        str, Option(metavar="N", help="Copies of the model behind one router.")
    ] = "1",
    roles: Annotated[
        str | None,
        Option(
            metavar="ROLE:N[@TP],...",
            help="Pools in place of --instances, such as prefill:2,decode:2; @TP is their own size.",
        ),
    ] = None,
    prefix_cache: Annotated[bool, Option(help="Reuse the KV of equal prompt beginnings.")] = True,
    block_tokens: Annotated[str, Option(metavar="N", help="Tokens of a KV block.")] = "16",
    kv_blocks: Annotated[
        str | None, Option(metavar="N", help="KV blocks of an instance [default: what fits].")
    ] = None,
    memory_utilisation: Annotated[
        str, Option(metavar="SHARE", help="Share of device memory to use.")
    ] = "0.9",
    profile: Annotated[
        str | None,
        Option(metavar="FILE", help="Measured step times, from calibrate [default: roofline]."),
    ] = None,
    report_interval: Annotated[
        str | None,
        Option(metavar="TIME", help="How often instances report to the router, such as 100ms."),
    ] = None,
    quality: Annotated[
        list[str] | None,
        Option(metavar="BENCHMARK=SCORE", help="Known quality of the variant; repeatable."),
    ] = None,
) -> None:
    """What runs, on what."""


def _link_flags(
    *,
    link: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="Link over which KV moves between instances, such as nvlink4 or 25gbe "
            "[default: the device's network].",
        ),
    ] = None,
    nodes: Annotated[
        str | None,
        Option(
            metavar="N",
            help="Deal each role's instances out to so many nodes; --link joins these "
            "[default: it joins all instances].",
        ),
    ] = None,
    node_link: Annotated[
        str | None,
        Option(
            metavar="NAME", help="Link inside a node [default: the device's own, such as NVLink]."
        ),
    ] = None,
) -> None:
    """What joins the instances."""


def _drafting_flags(
    *,
    draft_model: Annotated[
        str | None,
        Option(metavar="MODEL", help="Model that drafts for --speculation [default: free drafts]."),
    ] = None,
    acceptance: Annotated[
        str | None,
        Option(metavar="SHARE", help="Chance that a draft token is right [default: any count]."),
    ] = None,
    acceptance_spread: Annotated[
        str, Option(metavar="X", help="Its standard deviation among requests.")
    ] = "0",
) -> None:
    """Who drafts, and how well."""


def _workload_flags(
    *,
    trace: Annotated[
        str | None,
        Option(metavar="FILE", help="Trace file: Azure, BurstGPT, Mooncake or our JSONL."),
    ] = None,
    rate: Annotated[
        str | None, Option(metavar="R", help="Offered requests per second; scales a trace too.")
    ] = None,
    requests: Annotated[
        str | None,
        Option(metavar="N", help="How many requests (1k = 1000) [default: the trace, or 1000]."),
    ] = None,
    rate_scale: Annotated[str, Option(metavar="X", help="Multiply the rate.")] = "1",
    loop: Annotated[
        bool, Option("--loop", help="Start the trace again until there are enough requests.")
    ] = False,
    loop_reuse: Annotated[
        bool, Option("--loop-reuse", help="Likewise, with the same prefixes each lap.")
    ] = False,
    cv: Annotated[
        str | None,
        Option(metavar="X", help="Burstiness: CV of gamma gaps between arrivals; 1 is Poisson."),
    ] = None,
    sessions: Annotated[
        bool,
        Option("--sessions", help="Conversations of several turns; rate and requests count these."),
    ] = False,
    concurrency: Annotated[
        str | None,
        Option(metavar="N", help="Closed loop: so many users, each waits for its answer."),
    ] = None,
    tenants: Annotated[
        str, Option(metavar="N", help="Label requests with so many tenants [0: as in the trace].")
    ] = "0",
    tenant_skew: Annotated[
        str, Option(metavar="X", help="Tenants' shares 1, 2^-skew, 3^-skew, ...; 0 is equal.")
    ] = "1",
    max_tokens: Annotated[
        str, Option(metavar="N", help="The clients' cap on output tokens.")
    ] = "4096",
    slo: Annotated[
        list[str] | None,
        Option(
            metavar="[CLASS:]TARGETS",
            help="ttft=1s,tpot=60ms,itl_p99=200ms,e2e=30s,deadline=1min,late=1%, or none; "
            "repeatable with a class in front, whose part is share=0.3 "
            "[default: ttft=1s,tpot=60ms]",
        ),
    ] = None,
    seed: Annotated[int, Option(help="Seed of every draw.")] = 0,
) -> None:
    """Who asks for what, when, and what they were promised."""


def _policy_flags(
    *,
    batching: Annotated[
        str, Option(metavar="POLICY", help=f"What to compute next. {_POLICY}.")
    ] = "sarathi",
    ordering: Annotated[str, Option(metavar="POLICY", help="Who goes first.")] = "fcfs",
    memory: Annotated[str, Option(metavar="POLICY", help="Whom to take KV from.")] = "recompute",
    speculation: Annotated[
        str, Option(metavar="POLICY", help="How many tokens to draft.")
    ] = "none",
    routing: Annotated[str, Option(metavar="POLICY", help="Which instance.")] = "least_work",
    admission: Annotated[
        str, Option(metavar="POLICY", help="Accept, or say why not.")
    ] = "unbounded",
    control: Annotated[str, Option(metavar="POLICY", help="What to change in the fleet.")] = "none",
    settings: Annotated[
        list[str] | None,
        Option("--set", metavar="POLICY.OPTION=VALUE", help="Set an option; repeatable."),
    ] = None,
) -> None:
    """Who decides."""


_SHARED = {
    name: flag
    for group in (_deployment_flags, _link_flags, _drafting_flags, _workload_flags, _policy_flags)
    for name, flag in inspect.signature(group).parameters.items()
}


def takes_scenario(**defaults: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a verb all shared flags; it is called with the `Scenario` they describe, then its own flags.

    `defaults` are those of this verb where they differ.
    """

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(verb).parameters.values())[1:]
        flags = [
            flag.replace(default=defaults.get(name, flag.default)) for name, flag in _SHARED.items()
        ]
        every = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*flags, *own)]

        @functools.wraps(verb)
        def command(**given: Any) -> None:
            described = {name: given.pop(name) for name in _SHARED}
            verb(_scenario(**described), **given)

        command.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in every}
        return command

    return decorate


def _scenario(
    *, settings: list[str] | None, rate: str | None, report_interval: str | None, **texts: Any
) -> "Scenario":
    """Read the texts, 1k and 60ms included."""
    from headway.api import Scenario
    from headway.api.policy_choices import parse_settings
    from headway.api.quantities import count, duration_ns, number, positive, share
    from headway.api.slo_text import DEFAULT_SLO
    from headway.core import NS_PER_S

    read: dict[str, Callable[[str, str], Any]] = {
        **dict.fromkeys(("tp", "instances", "requests", "concurrency"), count),
        **dict.fromkeys(("max_tokens", "block_tokens", "kv_blocks", "nodes"), count),
        "tenants": functools.partial(count, least=0),
        "tenant_skew": number,
        "cv": positive,
        "acceptance": share,
        "acceptance_spread": number,
        "memory_utilisation": share,
    }
    fields = texts | {
        name: None if texts[name] is None else reader(f"--{name.replace('_', '-')}", texts[name])
        for name, reader in read.items()
    }
    interval_ns = (
        None if report_interval is None else duration_ns("--report-interval", report_interval)
    )
    return Scenario.of(
        fields
        | {
            "options": parse_settings(settings or ()),
            "slo": tuple(texts["slo"] or (DEFAULT_SLO,)),
            "rate_rps": None if rate is None else positive("--rate", rate),
            "rate_scale": positive("--rate-scale", texts["rate_scale"].removesuffix("x")),
            "report_interval_s": None if interval_ns is None else interval_ns / NS_PER_S,
            "quality": _scores(texts["quality"]),
        }
    )


def _scores(texts: list[str] | None) -> dict[str, float] | None:
    from headway.api.quantities import number
    from headway.errors import OptionError

    scores = {}
    for text in texts or ():
        name, equals, score = text.rpartition("=")
        if not equals or not name:
            raise OptionError(f"quality {text!r}: write BENCHMARK=SCORE, such as mmlu=0.68")
        scores[name] = number(f"quality {name}", score)
    return scores or None
