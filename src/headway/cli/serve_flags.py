"""The flags of `serve`. Names are vLLM's wherever the meaning is the same.

Not `from __future__ import annotations`: typer reads the annotations of functions put together here.
"""

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

if TYPE_CHECKING:
    from headway.server.serve_options import ServeOptions

_POLICY = "Name, pkg.mod:Class or file.py[:Class]"


# The signatures of the next functions are the flags; they are never called.


def _model_flags(
    model: Annotated[
        str | None,
        Argument(
            metavar="[MODEL]",
            show_default=False,
            help="A folder with safetensors, a .gguf file, or embedded [default: embedded].",
        ),
    ] = None,
    *,
    model_flag: Annotated[
        str | None, Option("--model", metavar="MODEL", help="The same, as a flag.")
    ] = None,
    served_model_name: Annotated[
        str | None, Option(metavar="NAME", help="What clients call it [default: the model's name].")
    ] = None,
    dtype: Annotated[
        str,
        Option(
            metavar="auto|float32|bfloat16",
            help="Number format of weights and KV; auto is the fastest here.",
        ),
    ] = "auto",
    max_model_len: Annotated[
        str | None, Option(metavar="N", help="Prompt and output tokens of a request together.")
    ] = None,
    chat_template: Annotated[
        str | None, Option(metavar="FILE", help="A Jinja template in the place of the model's.")
    ] = None,
    seed: Annotated[int, Option(help="Seed of the policies' draws; requests bring their own.")] = 0,
    threads: Annotated[
        str, Option(metavar="N", help="Threads of PyTorch in each host [0: its own choice].")
    ] = "0",
) -> None:
    """What is served."""


def _http_flags(
    *,
    host: Annotated[
        str, Option(help="Address to listen on; others than this machine's need --api-key.")
    ] = "127.0.0.1",
    port: Annotated[int, Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    api_key: Annotated[
        list[str] | None,
        Option(
            metavar="KEY",
            envvar="HEADWAY_API_KEY",
            help="Clients must bring one of these; repeatable, better set in the environment.",
        ),
    ] = None,
    open_metrics: Annotated[
        bool, Option("--open-metrics", help="Answer /metrics without a key.")
    ] = False,
    shutdown_timeout: Annotated[
        str, Option(metavar="SECONDS", help="How long SIGTERM waits for requests in flight.")
    ] = "30",
) -> None:
    """Where, and for whom."""


def _capacity_flags(
    *,
    max_num_seqs: Annotated[
        str | None, Option(metavar="N", help="Sequences that run at once.")
    ] = None,
    max_num_batched_tokens: Annotated[
        str | None, Option(metavar="N", help="Tokens of one step: the batching policy's budget.")
    ] = None,
    max_num_queued_reqs: Annotated[
        str | None,
        Option(
            metavar="N",
            help="Requests that may wait beside those that run; more are refused with 503 "
            "[default: 256 of both together].",
        ),
    ] = None,
    kv_memory: Annotated[
        str | None, Option(metavar="BYTES", help="Memory for KV of one instance, such as 1GiB.")
    ] = None,
    kv_blocks: Annotated[str | None, Option(metavar="N", help="The same, in blocks.")] = None,
    block_size: Annotated[str, Option(metavar="N", help="Tokens of a KV block.")] = "16",
    enable_prefix_caching: Annotated[
        bool,
        Option(
            "--enable-prefix-caching/--no-enable-prefix-caching",
            help="Reuse the KV of equal prompt beginnings of one tenant.",
        ),
    ] = True,
    share_prefixes: Annotated[
        bool,
        Option(
            "--share-prefixes", help="... of all tenants: they can then time each other's hits."
        ),
    ] = False,
    instances: Annotated[
        str, Option(metavar="N", help="Copies of the model, each in a process of its own.")
    ] = "1",
) -> None:
    """How much."""


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
    draft_model: Annotated[
        str | None,
        Option(
            metavar="MODEL",
            help="Model that drafts for --speculation, with the same vocabulary "
            "[default: drafts are looked up in the text].",
        ),
    ] = None,
    routing: Annotated[str, Option(metavar="POLICY", help="Which instance.")] = "least_work",
    admission: Annotated[
        str, Option(metavar="POLICY", help="Accept, or say why not.")
    ] = "bounded_queue",
    settings: Annotated[
        list[str] | None,
        Option("--set", metavar="POLICY.OPTION=VALUE", help="Set an option; repeatable."),
    ] = None,
    slo: Annotated[
        str,
        Option(
            metavar="TARGETS",
            help="What requests are promised that do not say: ttft=300ms,tpot=40ms, or none.",
        ),
    ] = "none",
) -> None:
    """Who decides, and what is promised."""


def _world_flags(
    *,
    world: Annotated[
        str, Option(metavar="live|sim", help="sim: compute nothing, take as long as --gpu would.")
    ] = "live",
    gpu: Annotated[
        str, Option("--gpu", "--device", help="Device of the simulated world.")
    ] = "h100",
    precision: Annotated[
        str | None, Option(help="Number format of the weights in the simulated world.")
    ] = None,
    tp: Annotated[
        str, Option(metavar="N", help="Tensor parallel size in the simulated world.")
    ] = "1",
    profile: Annotated[
        str | None,
        Option(
            metavar="FILE",
            help="Measured step times: what policies predict with; in the simulated world, times.",
        ),
    ] = None,
    sim_output_tokens: Annotated[
        str,
        Option(metavar="N", help="Mean answer of the simulated world [0: as long as max_tokens]."),
    ] = "0",
    run_log: Annotated[
        str | None,
        Option(metavar="FILE", help="Write every submit, step and end: input of calibrate."),
    ] = None,
    enable_log_requests: Annotated[
        bool, Option("--enable-log-requests", help="A line per call, without its prompt.")
    ] = False,
) -> None:
    """Live, or simulated in real time."""


_FLAGS = {
    name: flag
    for group in (_model_flags, _http_flags, _capacity_flags, _policy_flags, _world_flags)
    for name, flag in inspect.signature(group).parameters.items()
}


def takes_service(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb all these flags; it is called with the `ServeOptions` they describe, then its own flags."""
    own = list(inspect.signature(verb).parameters.values())[1:]
    every = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*_FLAGS.values(), *own)]

    @functools.wraps(verb)
    def command(**given: Any) -> None:
        described = {name: given.pop(name) for name in _FLAGS}
        verb(_options(**described), **given)

    command.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in every}
    return command


def _options(
    *,
    model: str | None,
    model_flag: str | None,
    served_model_name: str | None,
    api_key: list[str] | None,
    settings: list[str] | None,
    slo: str,
    kv_memory: str | None,
    block_size: str,
    enable_prefix_caching: bool,
    shutdown_timeout: str,
    **rest: Any,
) -> "ServeOptions":
    """Read the texts, 1k and 40ms included."""
    from headway.api.policy_choices import label_of, options_by_kind, parse_settings
    from headway.api.quantities import count, number
    from headway.api.slo_text import parse_slos
    from headway.cli.bytes_text import byte_count
    from headway.errors import OptionError
    from headway.server.serve_options import SERVED_KINDS, ServeOptions

    if model and model_flag and model != model_flag:
        raise OptionError(f"two models, {model} and {model_flag}: give one")
    if kv_memory and rest["kv_blocks"]:
        raise OptionError("--kv-memory and --kv-blocks say the same: give one")
    whole = ("max_model_len", "max_num_seqs", "max_num_batched_tokens", "kv_blocks")
    for name in (*whole, "tp", "instances"):
        if rest[name] is not None:
            rest[name] = count(f"--{name.replace('_', '-')}", rest[name])
    for name in ("max_num_queued_reqs", "threads", "sim_output_tokens"):
        if rest[name] is not None:
            rest[name] = count(f"--{name.replace('_', '-')}", rest[name], least=0)
    timeout = number("--shutdown-timeout", shutdown_timeout)
    if not 0 <= timeout <= 86_400:
        raise OptionError(f"--shutdown-timeout is {shutdown_timeout}: give seconds, 0 to 86400")
    chosen = {kind: label_of(rest[kind]) for kind in SERVED_KINDS}
    by_kind = options_by_kind(parse_settings(settings or ()), chosen)
    default = "embedded" if rest["world"] != "sim" else "llama-3.1-8b"
    return ServeOptions(
        model=model or model_flag or default,
        served_name=served_model_name,
        api_keys=tuple(api_key or ()),
        slo=parse_slos(slo).default,
        kv_bytes=None if kv_memory is None else byte_count("--kv-memory", kv_memory),
        block_tokens=count("--block-size", block_size),
        prefix_cache=enable_prefix_caching,
        shutdown_timeout_s=timeout,
        options={f"{kind}.{o}": v for kind, mine in by_kind.items() for o, v in mine.items()},
        **rest,
    )
