"""From what an operator asked to a plan that can be had: the model found, the memory counted, policies made."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway.checkpoint.checkpoint import Checkpoint, open_checkpoint, synthetic_checkpoint
from headway.checkpoint.locate import locate
from headway.errors import DoesNotFitError, OptionError
from headway.host.spec import LIVE, SIM, HostSpec, SimSpec
from headway.runtime.loader import load_policy, policy_options
from headway.runtime.traits import step_tokens_of
from headway.server.draft_model import DraftModel, find_draft
from headway.server.lifecycle import ServicePlan
from headway.server.memory import Need, available_bytes, host_blocks_that_fit, kv_tokens_that_fit
from headway.server.serve_options import LOOPBACK, SERVED_KINDS, ServeOptions
from headway.server.settings import Settings
from headway.server.stream import ServedModel
from headway.timing import blocks_beside, kv_capacity, load_device, load_model, load_profile

KV_TOKENS = 16 * 1024  # of an instance, unless told: 16 conversations of 1k
BUDGETS = ("max_num_batched_tokens", "token_budget", "forward_tokens")  # options that mean the same
DTYPES = {"auto": 4, "float32": 4, "bfloat16": 2}  # bytes of a number; auto may take half of that
WORD_COUNT = 256
SIM_CONTEXT, SIM_VOCABULARY = 8192, 32_000
_SAID = (
    "The first thing to say about a promise is when it is due. A request that waits behind others is late "
    "before it begins, and one that is refused at once can go elsewhere."
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """What bounds requests: of one instance."""

    context_tokens: int
    vocabulary: int
    kv_tokens: int
    facts: tuple[str, ...] = ()
    host_blocks: int | None = None  # that KV may be copied to; None: no limit


def plan_service(options: ServeOptions) -> ServicePlan:
    """Find out what is to be served and whether it fits. May download, so it may take long.

    Raises:
        HeadwayError: in one sentence, what cannot be and what to change.
    """
    _check(options)
    policies = {
        kind: load_policy(kind, getattr(options, kind), _options_of(kind, options))
        for kind in SERVED_KINDS
    }
    if options.world == SIM:
        model, checkpoint = options.model, _text_of_sim(options)
    else:
        located = locate(None if options.model == "embedded" else options.model)
        # Not resolved: behind the links of a hub's cache the files have no suffix.
        model = "embedded" if options.model == "embedded" else str(located.paths[0].absolute())
        checkpoint = open_checkpoint(located, chat_template=_path(options.chat_template))
    try:
        return _plan(options, policies, model, checkpoint, find_draft(options, checkpoint))
    except BaseException:
        checkpoint.close()
        raise


def _plan(
    options: ServeOptions,
    policies: Mapping[str, Any],
    model: str,
    checkpoint: Checkpoint,
    draft: DraftModel | None,
) -> ServicePlan:
    if options.world == SIM:
        sizes = _sizes_of_sim(options, step_tokens_of(policies["batching"]))
    else:
        sizes = _sizes_of_live(options, checkpoint, draft)
    blocks = options.kv_blocks or max(1, sizes.kv_tokens // options.block_tokens)
    context = min(options.max_model_len or sizes.context_tokens, blocks * options.block_tokens)
    models = (model, draft.path if draft else "")
    served = ServedModel(
        options.served_name or checkpoint.name,
        int(time.time()),
        context,
        sizes.vocabulary,
        blocks,
        options.block_tokens,
        options.world,
    )
    return ServicePlan(
        served,
        tuple(
            _spec(options, models, (blocks, sizes.host_blocks), n, checkpoint)
            for n in range(options.instances)
        ),
        (policies["admission"], policies["routing"]),
        checkpoint,
        Settings(api_keys=options.api_keys, open_metrics=options.open_metrics, slo=options.slo),
        options.host,
        options.port,
        options.shutdown_timeout_s,
        (*_told(options, checkpoint, draft), *sizes.facts),
        options.seed,
    )


def _check(options: ServeOptions) -> None:
    if options.world not in (LIVE, SIM):
        raise OptionError(f"--world is {options.world!r}: choose {LIVE} or {SIM}")
    if options.dtype not in DTYPES:
        raise OptionError(f"--dtype is {options.dtype!r}: choose {', '.join(DTYPES)}")
    if options.host not in LOOPBACK and not options.api_keys:
        raise OptionError(
            f"--host {options.host} can be reached from other machines: give --api-key, "
            "or listen on 127.0.0.1"
        )
    if any(not key for key in options.api_keys):
        raise OptionError("an empty --api-key protects nothing: give one, or leave it out")


def _options_of(kind: str, options: ServeOptions) -> dict[str, Any]:
    """Options of one policy: those that were set, and flags that mean one of them."""
    name = getattr(options, kind)
    known = policy_options(kind, name)
    given: dict[str, Any] = {
        key.partition(".")[2]: value
        for key, value in options.options.items()
        if key.partition(".")[0] == kind
    }
    if kind == "batching":
        _take(given, "--max-num-seqs", options.max_num_seqs, ("max_num_seqs",), known, name)
        _take(
            given, "--max-num-batched-tokens", options.max_num_batched_tokens, BUDGETS, known, name
        )
    if kind == "admission" and options.max_num_queued_reqs is not None:
        running = options.max_num_seqs or policy_options("batching", options.batching).get(
            "max_num_seqs", 256
        )
        most = options.max_num_queued_reqs + (running if isinstance(running, int) else 256)
        _take(given, "--max-num-queued-reqs", most, ("max_requests",), known, name)
    return given


def _take(
    given: dict[str, Any],
    flag: str,
    value: int | None,
    names: tuple[str, ...],
    known: Mapping[str, object],
    policy: str,
) -> None:
    """Set the option that `flag` means for this policy."""
    if value is None:
        return
    name = next((name for name in names if name in known), None)
    if name is None:
        raise OptionError(
            f"{flag} means nothing to {policy}: leave it out, or set its own with --set"
        )
    given.setdefault(name, value)


def _spec(
    options: ServeOptions,
    models: tuple[str, str],
    blocks: tuple[int, int | None],
    n: int,
    checkpoint: Checkpoint,
) -> HostSpec:
    """What host `n` is told: the served model and the one that drafts, its blocks and those it may copy elsewhere."""
    kinds = ("batching", "ordering", "memory", "speculation")
    each = {kind: _options_of(kind, options) for kind in kinds}
    live = options.world == LIVE
    log = options.run_log
    if log and options.instances > 1:
        path = Path(log)
        log = str(path.with_name(f"{path.stem}.i{n}{path.suffix}"))
    return HostSpec(
        model=models[0],
        draft_model=models[1],
        batching=_absolute(options.batching),
        ordering=_absolute(options.ordering),
        memory=_absolute(options.memory),
        speculation=_absolute(options.speculation),
        options={f"{kind}.{o}": str(v) for kind, mine in each.items() for o, v in mine.items()},
        blocks=blocks[0],
        host_blocks=blocks[1],
        block_tokens=options.block_tokens,
        threads=options.threads,
        name=f"i{n}",
        seed=options.seed + n,
        world=options.world,
        sim=SimSpec() if live else _sim(options, checkpoint),
        profile=_resolved(options.profile) if live else "",
        dtype=options.dtype,
        prefix_cache=options.prefix_cache,
        salted=not options.share_prefixes,
        run_log=str(Path(log).resolve()) if log else "",
    )


def _absolute(policy: str) -> str:
    """A policy's file is found from anywhere."""
    where, colon, wanted = policy.partition(":")
    return f"{Path(where).resolve()}{colon}{wanted}" if where.endswith(".py") else policy


def _resolved(file: str | None) -> str:
    return str(Path(file).resolve()) if file else ""


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


# -- the live world ----------------------------------------------------------------------------------------------


def _sizes_of_live(
    options: ServeOptions, checkpoint: Checkpoint, draft: DraftModel | None
) -> Sizes:
    facts = checkpoint.facts
    assert facts is not None, "a checkpoint on disk has facts"
    every = [facts, *([draft.facts] if draft and draft.facts else [])]
    context = facts.context_tokens
    if options.max_model_len and options.max_model_len > context:
        raise OptionError(
            f"--max-model-len is {options.max_model_len}, {checkpoint.name} was made for {context}: give less"
        )
    number_bytes = DTYPES[options.dtype]
    each = sum(model.kv_bytes_per_token(number_bytes) for model in every)
    weight_bytes = sum(model.parameters for model in every) * number_bytes
    need = Need(weight_bytes, each, options.instances, drafts=len(every) > 1)
    fixed = bool(options.kv_bytes or options.kv_blocks)
    wanted = max(KV_TOKENS, min(options.max_model_len or 0, context))
    if options.kv_blocks:
        wanted = options.kv_blocks * options.block_tokens
    elif options.kv_bytes:
        wanted = options.kv_bytes // each
        if wanted < options.block_tokens:
            raise OptionError(
                f"--kv-memory holds {wanted} tokens of {each} bytes, less than one block: give more"
            )
    available = available_bytes()
    tokens = kv_tokens_that_fit(need, wanted, fixed=fixed, available=available)
    beside = host_blocks_that_fit(need, tokens, options.block_tokens, available=available)
    gib = 1 << 30
    said = (
        f"memory{', at most' if options.dtype == 'auto' else ''}: weights {need.weight_bytes / gib:.2f} GiB, "
        f"KV {each * tokens / gib:.2f} GiB for {tokens:,} tokens"
        + (f", {options.instances} times" if options.instances > 1 else "")
    )
    return Sizes(context, checkpoint.vocabulary, tokens, (said,), beside)


def _told(options: ServeOptions, checkpoint: Checkpoint, draft: DraftModel | None) -> list[str]:
    """What a person should know of the model before using it."""
    told = [f"model: {options.served_name or checkpoint.name}, {options.world} world"]
    if draft:
        told.append(f"draft model: {draft.name}")
    if checkpoint.licence:
        told.append(f"licence: {checkpoint.licence.name}, {checkpoint.licence.terms}")
    if checkpoint.template.plain and options.world == LIVE:
        told.append(
            "no chat template comes with it: probably a base model that continues text; "
            "chats are written out as plain lines"
        )
    return told


# -- the simulated world -----------------------------------------------------------------------------------------


def _text_of_sim(options: ServeOptions) -> Checkpoint:
    return synthetic_checkpoint(Path(options.model).stem if "/" in options.model else options.model)


def _sizes_of_sim(options: ServeOptions, step_tokens: int) -> Sizes:
    """Of the sheets, as the simulator counts them; of a profile, what it was measured with."""
    fact = "nothing is computed: tokens are made up, and take as long as they would"
    if options.profile:
        profile = load_profile(options.profile)
        tokens = (profile.blocks or KV_TOKENS // profile.block_tokens) * profile.block_tokens
        return Sizes(SIM_CONTEXT, SIM_VOCABULARY, tokens, (fact,))
    sheet = load_model(options.model, options.precision)
    capacity = kv_capacity(
        sheet,
        load_device(options.gpu),
        options.tp,
        step_tokens=step_tokens,
        block_tokens=options.block_tokens,
    )
    tokens, each = capacity.tokens, sheet.kv_bytes_per_token(options.tp)
    if options.draft_model:
        draft = load_model(options.draft_model)
        tokens = blocks_beside(capacity, draft, options.tp) * options.block_tokens
        each += draft.kv_bytes_per_token(options.tp)
        if not tokens:
            raise DoesNotFitError(
                f"the weights of {draft.name} leave no KV block beside {sheet.name} on {options.gpu}:"
                " give more --tp or a smaller --draft-model"
            )
    if options.kv_bytes:
        tokens = options.kv_bytes // max(1, each)
    return Sizes(sheet.max_context, sheet.vocab, tokens, (fact,))


def _sim(options: ServeOptions, checkpoint: Checkpoint) -> SimSpec:
    """Tokens are drawn from those of a sentence, so that answers look like text."""
    ids = checkpoint.tokenizer.encode(_SAID, add_special=False)
    return SimSpec(
        options.gpu,
        options.precision,
        options.tp,
        _resolved(options.profile),
        options.sim_output_tokens,
        tuple(ids[:WORD_COUNT]),
    )
