"""Small random models, their reference answers from transformers, and a driver that plays the runtime."""

from __future__ import annotations

import queue
import random
from collections.abc import Callable, Iterable, Sequence as Seq
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch

from headway.core.plan import (
    DONE,
    FAILED,
    LAYER,
    SWAP_IN,
    SWAP_OUT,
    Step,
    StepResult,
    Transfer,
    Work,
)
from headway.core.protocols import StepHandle
from headway.core.request import Request
from headway.core.sampling import GREEDY, Sampling
from headway.core.sequence import FINISHED, Sequence
from headway.engine.decoder import Decoder
from headway.engine.executor import TorchExecutor
from headway.engine.kv_exchange import KvExchange
from headway.engine.safetensors_weights import weights_from_safetensors

transformers = pytest.importorskip("transformers")

TINY = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "sliding_window": 12,
    "max_position_embeddings": 2048,
}
PROMPTS = (3, 9, 24, 40)  # shorter and longer than the window
OUTPUT = 64


def random_model(**sizes: Any) -> Any:
    """Norms that are not 1, and weights under which the most likely token keeps changing.

    With the usual initialisation a model soon repeats one token for ever, which would hide errors.
    """
    torch.manual_seed(11)
    config = transformers.Gemma3TextConfig(
        **sizes, bos_token_id=2, eos_token_id=None, pad_token_id=0
    )
    reference = transformers.Gemma3ForCausalLM(config).eval()
    with torch.no_grad():
        for name, weight in reference.named_parameters():
            if "norm" in name:
                weight.normal_(
                    1.0 if name.endswith(("q_norm.weight", "k_norm.weight")) else 0.0, 0.3
                )
            else:
                weight.normal_(0.0, 2 * weight.shape[1] ** -0.5 if "proj" in name else 0.005)
    return reference


@dataclass(frozen=True)
class Case:
    """A model here and in transformers, and what the latter says to some prompts."""

    reference: Any
    path: Path
    model: Decoder
    prompts: list[tuple[int, ...]]
    answers: list[list[int]]


def make_case(reference: Any, path: Path, lengths: Iterable[int], output: int) -> Case:
    reference.save_pretrained(path)
    config, weights = weights_from_safetensors(path)
    draw = random.Random(5)
    prompts = [(2, *(draw.randrange(3, config.vocabulary) for _ in range(n - 1))) for n in lengths]
    answers: list[list[int]] = []
    for _, same in groupby(prompts, len):
        answers += answer(reference, list(same), output)
    return Case(reference, path, Decoder(config, weights), prompts, answers)


def answer(reference: Any, prompts: Seq[Seq[int]], output: int) -> list[list[int]]:
    """Of prompts of one length: transformers pads others, and padding is not what is compared here."""
    ids = torch.tensor([list(prompt) for prompt in prompts])
    out = reference.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        use_cache=True,
        max_new_tokens=output,
    )
    tokens: list[list[int]] = out[:, ids.shape[1] :].tolist()
    return tokens


REAL = {  # Gemma-3-270M with a smaller vocabulary
    "vocab_size": 4096,
    "hidden_size": 640,
    "intermediate_size": 2048,
    "num_hidden_layers": 18,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "sliding_window": 512,
    "max_position_embeddings": 32768,
}
REAL_PROMPTS = (20,) * 10 + (90,) * 8 + (540,) * 2


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(random_model(**REAL), tmp_path_factory.mktemp("real"), REAL_PROMPTS, OUTPUT)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(random_model(**TINY), tmp_path_factory.mktemp("tiny"), PROMPTS, OUTPUT)


class QueueClock:
    """Runs what was posted, one at a time, when asked to."""

    def __init__(self) -> None:
        self.posted: queue.Queue[Callable[[], None]] = queue.Queue()
        self._now_ns = 0

    def now_ns(self) -> int:
        self._now_ns += 1
        return self._now_ns

    def call_at(self, time_ns: int, fn: Callable[[], None], rank: int = 0, key: int = 0) -> Any:
        raise NotImplementedError

    def post(self, fn: Callable[[], None]) -> None:
        self.posted.put(fn)

    def passed(self, rank: int, key: int) -> bool:
        return True

    def run_one(self) -> None:
        self.posted.get(timeout=60)()


class Driver:
    """A runtime without opinions: the test says what runs next, the driver keeps the books."""

    def __init__(
        self,
        model: Decoder,
        *,
        blocks: int = 256,
        block_tokens: int = 4,
        stops: Iterable[int] = (),
        exchange: KvExchange | None = None,
        draft: Decoder | None = None,
    ) -> None:
        self.clock = QueueClock()
        self.executor = TorchExecutor(
            self.clock,
            model,
            blocks=blocks,
            block_tokens=block_tokens,
            stops=stops,
            exchange=exchange,
            draft=draft,
        )
        self.block_tokens = block_tokens
        self.free = list(range(blocks))
        random.Random(3).shuffle(self.free)
        self.in_flight = self.steps = 0
        self.results: list[StepResult] = []

    def add(
        self,
        prompt: Seq[int],
        max_tokens: int = OUTPUT,
        request_id: int | None = None,
        sampling: Sampling = GREEDY,
    ) -> Sequence:
        self.steps += 1
        number, ids = 1000 + self.steps if request_id is None else request_id, tuple(prompt)
        return Sequence(Request(number, 0, len(ids), max_tokens, prompt_ids=ids, sampling=sampling))

    def grow(self, sequence: Sequence, tokens: int) -> None:
        while len(sequence.blocks) * self.block_tokens < tokens:
            sequence.blocks.append(self.free.pop())

    def drop_blocks(self, sequence: Sequence) -> None:
        self.free += sequence.blocks
        sequence.blocks = []

    def launch(self, works: Seq[Work], lane: str = "main") -> StepHandle:
        self.steps += 1
        self.in_flight += 1
        for work in works:
            sequence = work.sequence
            self.grow(sequence, sequence.computed_tokens + sequence.pending_tokens + work.tokens)
            sequence.pending_output += work.tokens >= sequence.remaining_tokens
            sequence.pending_tokens += work.tokens
        step = Step(self.steps, lane, works)
        return self.executor.execute(step, partial(self._done, step))

    def _done(self, step: Step, result: StepResult) -> None:
        self.in_flight -= 1
        self.results.append(result)
        if result.status == FAILED:
            return
        for work, done in zip(step.work, result.done, strict=True):
            sequence = work.sequence
            reached = sequence.computed_tokens + work.tokens >= sequence.total_tokens
            sequence.pending_output -= reached and sequence.pending_output > 0
            sequence.pending_tokens -= work.tokens
            if sequence.state == FINISHED:
                continue
            if done.error:
                sequence.state = FINISHED
                self.executor.release(sequence.id)
                continue
            if done.layers < self.executor.layers:
                sequence.partial = (work.tokens, done.layers)
                continue
            sequence.partial = None
            sequence.computed_tokens += done.tokens
            sequence.total_tokens += done.emitted
            sequence.output_tokens += done.emitted
            sequence.output_ids = [*(sequence.output_ids or []), *done.ids]
            if done.ended or sequence.output_tokens >= sequence.request.max_tokens:
                sequence.state = FINISHED
                self.executor.release(sequence.id)

    def land(self) -> None:
        while self.in_flight:
            self.clock.run_one()

    def step(self, *works: Work, lane: str = "main") -> StepResult:
        self.launch(works, lane)
        self.land()
        return self.results[-1]

    def move(self, kind: str, sequence: Sequence) -> None:
        arrived: list[bool] = []
        transfer = Transfer(0, kind, sequence, len(sequence.blocks))
        self.executor.transfer(transfer, lambda: arrived.append(True))
        while not arrived:
            self.clock.run_one()

    def prefill(self, sequence: Sequence, chunk: int = 10_000) -> None:
        while sequence.remaining_tokens > 1 or not sequence.output_tokens:
            result = self.step(Work(sequence, min(chunk, sequence.remaining_tokens)))
            assert result.status == DONE, result.error

    def finish(self, *sequences: Sequence, drafts: int = 0) -> None:
        """Decode all of them together until each has ended."""
        while left := [sequence for sequence in sequences if sequence.state != FINISHED]:
            result = self.step(*(Work(sequence, 1 + drafts, None, drafts) for sequence in left))
            assert result.status == DONE, result.error

    def close(self) -> None:
        self.executor.close()


MODES = frozenset({"chunks", "layers", "interrupts", "recompute", "swap", "drafts", "lanes"})


def any_schedule(
    driver: Driver, sequences: Seq[Sequence], draw: random.Random, modes: frozenset[str] = MODES
) -> None:
    """Run sequences to their ends in an order nobody would choose, using the given liberties."""
    lanes = ("one", "two") if "lanes" in modes else ("main",)
    home = {sequence.id: draw.choice(lanes) for sequence in sequences}
    while live := [sequence for sequence in sequences if sequence.state != FINISHED]:
        for sequence in live:
            if draw.random() < 0.02:
                disturb(driver, sequence, draw, modes)
        handles = []
        for lane in lanes:
            chosen = [s for s in live if home[s.id] == lane and draw.random() < 0.8]
            if chosen:
                works = [
                    any_work(sequence, draw, modes, driver.executor.layers) for sequence in chosen
                ]
                handles.append(driver.launch(works, lane))
        if handles and "interrupts" in modes and draw.random() < 0.5:
            draw.choice(handles).interrupt(LAYER)
        driver.land()


def any_work(sequence: Sequence, draw: random.Random, modes: frozenset[str], layers: int) -> Work:
    tokens, first, drafts = sequence.remaining_tokens, 0, 0
    if sequence.partial:
        tokens, first = sequence.partial
    elif tokens > 1:
        if "chunks" in modes:
            tokens = draw.randint(1, tokens)
    elif "drafts" in modes and sequence.output_tokens:
        drafts = draw.randint(0, 3)
    last = draw.randint(first + 1, layers) if "layers" in modes and draw.random() < 0.3 else layers
    whole = (first, last) == (0, layers)
    return Work(sequence, tokens + drafts, None if whole else (first, last), drafts)


def disturb(driver: Driver, sequence: Sequence, draw: random.Random, modes: frozenset[str]) -> None:
    """Take a sequence's blocks away, and bring their content back or not."""
    ways = sorted(modes & {"recompute", "swap"})
    if not ways or not sequence.blocks:
        return
    sequence.partial = None
    if draw.choice(ways) == "recompute":
        sequence.computed_tokens = 0
        driver.drop_blocks(sequence)
        return
    driver.move(SWAP_OUT, sequence)
    driver.drop_blocks(sequence)
    draw.shuffle(driver.free)
    driver.grow(sequence, sequence.computed_tokens)
    driver.move(SWAP_IN, sequence)


@pytest.fixture
def drive() -> Iterable[Callable[..., Driver]]:
    """Make drivers that are closed after the test."""
    made: list[Driver] = []

    def make(model: Decoder, **options: Any) -> Driver:
        made.append(Driver(model, **options))
        return made[-1]

    yield make
    for driver in made:
        driver.close()


@pytest.fixture
def schedule() -> Callable[..., None]:
    return any_schedule
