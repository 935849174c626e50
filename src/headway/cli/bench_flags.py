"""The flags of `headway bench`: named as in `vllm bench serve` where they mean the same.

Not `from __future__ import annotations`: typer reads the annotations of functions put together here.
"""

import functools
import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Annotated, Any

from typer import Argument, Option

# The signatures of the next three functions are the flags; they are never called.


def _endpoint_flags(
    *,
    url: Annotated[
        list[str] | None,
        Argument(metavar="[URL]", help="Address of the server, such as http://127.0.0.1:8000."),
    ] = None,
    base_url: Annotated[str | None, Option(metavar="URL", help="The same, as an option.")] = None,
    model: Annotated[str | None, Option(help="Model to ask for [default: the one served].")] = None,
    endpoint: Annotated[
        str, Option(metavar="KIND", help="completions, chat, or a path ending in completions.")
    ] = "completions",
    ready_timeout: Annotated[
        str, Option(metavar="TIME", help="How long to wait for a server that is not ready yet.")
    ] = "2min",
    timeout: Annotated[str, Option(metavar="TIME", help="Most time for one answer.")] = "10min",
    ignore_eos: Annotated[
        bool, Option(help="Ask for answers of the whole length; not every server can.")
    ] = True,
    slo_headers: Annotated[
        bool, Option(help="Tell the server each request's tenant and targets in headers.")
    ] = True,
    prompts: Annotated[
        str | None,
        Option(metavar="ids|words", help="Prompts of token ids or words [chat: words; else ids]."),
    ] = None,
    vocab_range: Annotated[
        str | None, Option(metavar="LOW:HIGH", help="Token ids to draw from, both included.")
    ] = None,
    prompt_salt: Annotated[
        int | None,
        Option(metavar="N", help="Make the same prompts again [default: new ones each run]."),
    ] = None,
) -> None:
    """Whom to ask, and how."""


def _load_flags(
    *,
    request_rate: Annotated[
        str | None,
        Option(
            "--request-rate",
            "--rate",
            metavar="R",
            help="Requests per second; scales a trace too; inf: at once.",
        ),
    ] = None,
    burstiness: Annotated[
        str, Option(metavar="X", help="Shape of gamma gaps: 1 is Poisson, less is burstier.")
    ] = "1",
    max_concurrency: Annotated[
        str | None,
        Option(metavar="N", help="Without a rate: a closed loop of N users. With: most in flight."),
    ] = None,
    num_prompts: Annotated[
        str | None,
        Option(
            "--num-prompts",
            "--requests",
            metavar="N",
            help="How many requests [default: the trace, or 1000].",
        ),
    ] = None,
    duration: Annotated[str | None, Option(metavar="TIME", help="Offer nothing after it.")] = None,
    random_input_len: Annotated[str, Option(metavar="N", help="Prompt tokens.")] = "1024",
    random_output_len: Annotated[str, Option(metavar="N", help="Output tokens.")] = "128",
    random_range_ratio: Annotated[
        str, Option(metavar="SHARE", help="Lengths lie within this share of theirs, evenly.")
    ] = "0",
    trace: Annotated[
        str | None,
        Option(metavar="FILE", help="Trace file: Azure, BurstGPT, Mooncake or our JSONL."),
    ] = None,
    rate_scale: Annotated[str, Option(metavar="X", help="Multiply the trace's rate.")] = "1",
    loop: Annotated[bool, Option("--loop", help="Start the trace again at its end.")] = False,
    tenants: Annotated[
        str, Option(metavar="N", help="Label requests with so many tenants [0: as in the trace].")
    ] = "0",
    tenant_skew: Annotated[
        str, Option(metavar="X", help="Tenants' shares 1, 2^-skew, 3^-skew, ...; 0 is equal.")
    ] = "1",
    warmup: Annotated[
        str, Option(metavar="N", help="Requests sent first, one by one, and not counted.")
    ] = "1",
    seed: Annotated[int, Option(help="Seed of arrivals, lengths and labels.")] = 0,
) -> None:
    """Who asks for what, when."""


def _promise_flags(
    *,
    slo: Annotated[
        list[str] | None,
        Option(
            metavar="[CLASS:]TARGETS",
            help="ttft=1s,tpot=60ms,itl_p99=200ms,e2e=30s,deadline=1min,late=1%, or none; "
            "repeatable with a class in front, whose part is share=0.3 "
            "[default: ttft=1s,tpot=60ms]",
        ),
    ] = None,
    goodput: Annotated[
        list[str] | None,
        Option(metavar="KEY:MS...", help="Targets as in vLLM: ttft:500 tpot:50 e2el:9000."),
    ] = None,
) -> None:
    """What was promised."""


_FLAGS = {
    name: flag
    for group in (_endpoint_flags, _load_flags, _promise_flags)
    for name, flag in inspect.signature(group).parameters.items()
}


def takes_bench_flags(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb these flags; it is called with all of them in one namespace, then its own."""
    own = list(inspect.signature(verb).parameters.values())[1:]
    every = [flag.replace(kind=inspect.Parameter.KEYWORD_ONLY) for flag in (*_FLAGS.values(), *own)]

    @functools.wraps(verb)
    def command(**given: Any) -> None:
        verb(SimpleNamespace(**{name: given.pop(name) for name in _FLAGS}), **given)

    command.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in every}
    return command
