"""From flags to a plan: reads the texts of `headway bench` and puts its workload together."""

import os
import re
import secrets
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from headway.api.quantities import count, duration_ns, number, positive, share
from headway.api.slo_text import DEFAULT_SLO, SloBook, parse_slos
from headway.core import NO_SLO, NS_PER_MS, NS_PER_S
from headway.core.protocols import Workload
from headway.errors import OptionError, WorkloadError
from headway.loadgen import BenchPlan, Endpoint, kind_of, root_of
from headway.workload import (
    AtOnce,
    ClosedLoop,
    Gamma,
    Independent,
    Poisson,
    SloClasses,
    Synthetic,
    Tenants,
    Uniform,
    open_trace,
)

_DEFAULT_REQUESTS = 1000
_GOODPUT = re.compile(r"(ttft|tpot|e2el):(.+)")
_GOODPUT_FIELDS = {"ttft": "ttft_ns", "tpot": "tpot_ns", "e2el": "e2e_ns"}


def plan_of(given: SimpleNamespace, *, detailed: bool) -> BenchPlan:
    """Read all flags.

    Raises:
        OptionError: a flag that cannot be, or flags that contradict each other.
    """
    rate = _rate(given)
    users = _optional(count, "--max-concurrency", given.max_concurrency)
    if rate is None and users is None and given.trace is None:
        raise OptionError(
            "how hard to push? Give --request-rate 2 (open loop), --max-concurrency 8 (users who wait for "
            "their answers), or --trace FILE"
        )
    closed = users is not None and (rate == float("inf") or (rate is None and given.trace is None))
    requests = _requests(given)
    kind, path = kind_of(given.endpoint)
    return BenchPlan(
        endpoint=Endpoint(
            root=root_of(_address(given)),
            model=given.model or "",
            kind=kind,
            path=path,
            api_key=os.environ.get("OPENAI_API_KEY", ""),
            slo_headers=given.slo_headers,
            timeout_s=duration_ns("--timeout", given.timeout) / NS_PER_S,
            extra={"ignore_eos": True} if given.ignore_eos else {},
        ),
        workload=_workload(given, rate, users if closed else None, requests),
        requests=requests,
        limit=None if closed else users,
        closed=closed,
        duration_s=_seconds("--duration", given.duration),
        ready_s=duration_ns("--ready-timeout", given.ready_timeout) / NS_PER_S,
        warmup=count("--warmup", given.warmup, 0),
        salt=secrets.randbits(32) if given.prompt_salt is None else given.prompt_salt,
        ids=_ids(given.vocab_range),
        words=_words(given.prompts),
        keep_text=detailed,
        config=_config(given, rate, users),
    )


def slo_texts(given: SimpleNamespace) -> list[str]:
    """The promises as they were written, for people."""
    return [*(given.slo or ()), *_goodput_texts(given)] or [DEFAULT_SLO]


def _config(given: SimpleNamespace, rate: float | None, users: int | None) -> dict[str, Any]:
    """Every flag as it was given, and vLLM's three as numbers (its `inf` is a string)."""
    flags = {name: value for name, value in vars(given).items() if value is not None}
    flags.pop("url", None)
    return flags | {
        "request_rate": "inf"
        if rate == float("inf") or (rate is None and given.trace is None)
        else rate,
        "burstiness": positive("--burstiness", given.burstiness),
        "max_concurrency": users,
    }


def _address(given: SimpleNamespace) -> str:
    said = [word for word in given.url or () if not _GOODPUT.fullmatch(word)]
    said += [given.base_url] if given.base_url else []
    if len(said) != 1:
        raise OptionError(
            f"{len(said)} addresses given ({' '.join(said) or 'none'}): give one, such as http://127.0.0.1:8000"
        )
    return str(said[0])


def _rate(given: SimpleNamespace) -> float | None:
    text = given.request_rate
    if text is None:
        return None
    return float("inf") if text.strip().lower() == "inf" else positive("--request-rate", text)


def _requests(given: SimpleNamespace) -> int | None:
    """How many; None: as many as the trace has, or as fit into the duration."""
    if given.num_prompts is not None:
        return count("--num-prompts", given.num_prompts)
    return None if given.trace is not None or given.duration is not None else _DEFAULT_REQUESTS


def _workload(
    given: SimpleNamespace, rate: float | None, users: int | None, requests: int | None
) -> Workload:
    slos = _slos(given)
    source = _traced(given, rate, slos) if given.trace is not None else _random(given, rate, slos)
    if slos.classes and (given.trace is None or slos.shares):
        source = SloClasses(source, slos.labels, given.seed)
    tenants = count("--tenants", given.tenants, 0)
    if tenants:
        source = Tenants.skewed(
            source, tenants, number("--tenant-skew", given.tenant_skew), given.seed
        )
    return source if users is None else ClosedLoop(source, users, requests)


def _random(given: SimpleNamespace, rate: float | None, slos: SloBook) -> Synthetic:
    spread = share("--random-range-ratio", given.random_range_ratio)
    lengths = [
        _around(count(f"--random-{what}-len", getattr(given, f"random_{what}_len")), spread)
        for what in ("input", "output")
    ]
    burstiness = positive("--burstiness", given.burstiness)
    arrivals: AtOnce | Poisson | Gamma = AtOnce()
    if rate is not None and rate != float("inf"):
        arrivals = Poisson(rate) if burstiness == 1 else Gamma(rate, burstiness**-0.5)
    if isinstance(arrivals, AtOnce) and given.max_concurrency is None and given.num_prompts is None:
        raise OptionError(
            "--request-rate inf sends everything at once: say how many with --num-prompts"
        )
    return Synthetic(arrivals, Independent(*lengths), _requests(given), given.seed, slos.default)


def _around(tokens: int, spread: float) -> Uniform:
    return Uniform(max(1, int(tokens * (1 - spread))), max(1, -int(-tokens * (1 + spread) // 1)))


def _traced(given: SimpleNamespace, rate: float | None, slos: SloBook) -> Workload:
    scale = positive("--rate-scale", given.rate_scale)
    if rate is not None and rate != float("inf"):
        scale *= rate / _natural_rate(given)
    elif rate is not None and given.max_concurrency is None:
        raise OptionError(
            "--request-rate inf sends a trace at once: give --max-concurrency as well"
        )
    requests = _requests(given)
    if given.loop and requests is None and given.duration is None:
        raise OptionError("--loop never ends: say how long with --num-prompts or --duration")
    return open_trace(
        given.trace,
        requests=requests,
        rate_scale=scale,
        loop=given.loop,
        slo=slos.default,
        slo_by_class=slos.classes,
    )


def _natural_rate(given: SimpleNamespace) -> float:
    """Requests per second of the trace, of those that will be offered."""
    first = last = None
    offered = 0
    for offer in open_trace(given.trace, requests=_requests(given)).offers():
        last = offer.request.arrival_ns
        first = last if first is None else first
        offered += 1
    if first is None or last is None or first == last:
        raise WorkloadError(
            f"{given.trace} has {offered} requests that arrive at one time, so it has no rate to scale: "
            "leave --request-rate out"
        )
    return offered / ((last - first) / NS_PER_S)


def _slos(given: SimpleNamespace) -> SloBook:
    texts = _goodput_texts(given)
    if not texts:
        return parse_slos(given.slo or ())
    if given.slo:
        raise OptionError("--slo and --goodput both promise something: give one of them")
    targets: dict[str, int] = {}
    for text in texts:
        found = _GOODPUT.fullmatch(text)
        if found is None:
            raise OptionError(
                f"--goodput {text}: give ttft:MS, tpot:MS or e2el:MS, in milliseconds, such as ttft:500 tpot:50"
            )
        milliseconds = positive(f"--goodput {found[1]}", found[2])
        targets[_GOODPUT_FIELDS[found[1]]] = round(milliseconds * NS_PER_MS)
    return SloBook(replace(NO_SLO, **targets))  # type: ignore[arg-type]


def _goodput_texts(given: SimpleNamespace) -> list[str]:
    """In vLLM the option takes several words; here those behind the first arrive as arguments."""
    words = [word for text in given.goodput or () for word in text.split()]
    return words + [word for word in given.url or () if _GOODPUT.fullmatch(word)]


def _ids(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    low, _, high = text.partition(":")
    if not (low.isdigit() and high.isdigit()):
        raise OptionError(f"--vocab-range {text}: give the first and last id, such as 1000:30000")
    return int(low), int(high)


def _words(text: str | None) -> bool:
    if text not in (None, "ids", "words"):
        raise OptionError(f"--prompts is {text}: give ids or words")
    return text == "words"


def _seconds(what: str, text: str | None) -> float | None:
    return None if text is None else duration_ns(what, text) / NS_PER_S


def _optional(read: Any, what: str, text: str | None) -> Any:
    return None if text is None else read(what, text)
