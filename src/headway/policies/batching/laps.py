"""LAPS: short prompts in padded batches that wait for each other a moment, long ones apart, one at a time in chunks.

A step computes prompts of one class only, told apart by the input that no cache holds: the few tokens of a short one
read all weights, a long one keeps the arithmetic busy, and together each waits for the other. Short ones gather until
the batch has its depth, its window is over, or somebody's deadline is near; then the batch is padded to the nearest
captured shape (tokens x prompts, powers of two), which saves launching its kernels one by one. Depth and window
adapt: a batch that filled sets the window to the time it took, one that did not sets the depth to what had come.

Source: LAPS (formerly PLA-Serve), length-aware prefill serving. Uncertain there, chosen here: values of the windows
and of the urgency, what a batch may hold at most (the tokens of the largest captured shape), and that classes take
turns when both are ready. Differs: both classes share one instance, so the controller that moves instances between
pools is not here; the depth is reset every `reset` batches, or it would only shrink; the rows that fill a shape up are
padding of its last prompt; a shape is used only where it computes at most `most_padding` more. Beside decodes nothing
is padded, and nobody is idle while short prompts wait. Without deadlines, a batch goes when its tokens or its window
are used up.
Cost: O(waiting · prefix extents) per plan.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from headway.core import NS_PER_MS, InstanceView, Sequence, StepPlan, Work
from headway.errors import MissingCapabilityError

Prompt = tuple[Sequence, int]
"""A sequence and the tokens it has left to compute."""

LEAST_BUCKET, MOST_PROMPTS = 8, 64  # captured: 8 to `short_tokens` tokens, 1 to 64 prompts


@dataclass
class Laps:
    """Options: longest short prompt, tokens of a long one's chunk and of a batch of short ones, bounds of the window,
    time kept before a deadline, batches between resets of the depth, padding as a share of the tokens (0: none), and
    sequences running at once.
    """

    waits: ClassVar[bool] = True

    short_tokens: int = 256
    chunk_tokens: int = 1024
    batch_tokens: int = 2048
    least_wait_ms: float = 1.0
    most_wait_ms: float = 20.0
    urgency_ms: float = 5.0
    reset: int = 32
    most_padding: float = 0.25
    max_num_seqs: int = 256
    _wait_ns: int = field(init=False, repr=False)
    _depth: int = field(default=MOST_PROMPTS, init=False, repr=False)
    _batches: int = field(default=0, init=False, repr=False)
    _long: int | None = field(default=None, init=False, repr=False)  # request id of the one at work
    _long_turn: bool = field(default=False, init=False, repr=False)
    _times: dict[int, int] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Start with the longest window."""
        self._wait_ns = round(self.most_wait_ms * NS_PER_MS)

    @property
    def step_tokens(self) -> int:
        """Most tokens one step computes."""
        return max(self.batch_tokens, self.chunk_tokens) + self.max_num_seqs

    def plan(self, view: InstanceView) -> StepPlan:
        """All decodes, and a batch of short prompts or a chunk of a long one."""
        decodes = view.take_decodes(limit=self.max_num_seqs)
        short, long = self._classes(view)
        go_ns = self._go_ns(view, short) if short else None
        ready = go_ns is not None and go_ns <= view.now_ns
        works: list[Work] = []
        if ready and not (long and self._long_turn):
            works = self._batch(view, short, alone=not decodes)
            self._long_turn = True
        if not works and long:
            works = self._chunk(view, long)
            self._long_turn = False
            if not works and ready:
                works = self._batch(view, short, alone=not decodes)
        return StepPlan(
            {"main": [*decodes, *works] if works else decodes},
            wake_at_ns=None if ready or works else go_ns,
            steady=not (works or long or ready),
        )

    def _classes(self, view: InstanceView) -> tuple[list[Prompt], list[Prompt]]:
        """Short and long prompts, running ones first, each with the tokens it has left to compute."""
        short: list[Prompt] = []
        long: list[Prompt] = []
        for sequence in (*view.prefilling, *view.waiting):
            tokens = view.uncached_tokens(sequence)
            is_long = tokens > self.short_tokens or sequence.id == self._long
            (long if is_long else short).append((sequence, tokens))
        return short, long

    # -- short ones --------------------------------------------------------------------------------------------

    def _go_ns(self, view: InstanceView, short: list[Prompt]) -> int:
        """When those who gather need wait no longer."""
        total = sum(tokens for _, tokens in short)
        if (
            len(short) >= self._depth
            or total >= self.batch_tokens
            or short[0][0].state == "running"
        ):
            return view.now_ns
        go_ns = min(sequence.request.arrival_ns for sequence, _ in short) + self._wait_ns
        due = [sequence.request.due_ns(sequence.output_tokens) for sequence, _ in short]
        first_ns = min((one for one in due if one is not None), default=None)
        if first_ns is not None:
            reserve_ns = round(self.urgency_ms * NS_PER_MS) + self._time_ns(view, total)
            go_ns = min(go_ns, first_ns - reserve_ns)
        return go_ns

    def _batch(self, view: InstanceView, short: list[Prompt], *, alone: bool) -> list[Work]:
        """As many as fit a batch, those as long as the first one before others."""
        bucket = _shape(short[0][1])
        ranked = sorted(
            short, key=lambda one: (one[0].state == "waiting", _shape(one[1]) != bucket)
        )
        chosen: list[Prompt] = []
        left, places = self.batch_tokens, self.max_num_seqs - len(view.running)
        for sequence, tokens in ranked:
            starts = sequence.state == "waiting"
            if tokens <= left and len(chosen) < MOST_PROMPTS and (places > 0 or not starts):
                chosen.append((sequence, tokens))
                left -= tokens
                places -= starts
        pads = self._pads([tokens for _, tokens in chosen]) if alone else [None] * len(chosen)
        works = []
        for (sequence, _), pad_to in zip(chosen, pads, strict=True):
            work = view.take(sequence, sequence.remaining_tokens, pad_to=pad_to)
            if work:
                works.append(work)
            elif sequence.state == "waiting" and not sequence.swapped:
                break  # no room: nobody behind it goes first
        if works:
            self._adapt(view, short)
        return works

    def _pads(self, tokens: list[int]) -> list[int | None]:
        """Tokens each is computed as, so that the batch has a captured shape; None where none is near."""
        if not tokens:
            return []
        bucket, rows = _shape(max(tokens)), 1 << (len(tokens) - 1).bit_length()
        total = bucket * rows
        if total > self.batch_tokens or total > (1 + self.most_padding) * sum(tokens):
            return [None] * len(tokens)
        return [*([bucket] * (len(tokens) - 1)), bucket * (rows - len(tokens) + 1)]

    def _adapt(self, view: InstanceView, short: list[Prompt]) -> None:
        """Depth and window for the next batch."""
        self._batches += 1
        if self._batches % self.reset == 0:
            self._depth = MOST_PROMPTS
        elif len(short) < self._depth:
            self._depth = len(short)
        else:
            filled_ns = view.now_ns - min(sequence.request.arrival_ns for sequence, _ in short)
            most_ns = round(self.most_wait_ms * NS_PER_MS)
            self._wait_ns = max(round(self.least_wait_ms * NS_PER_MS), min(most_ns, filled_ns))

    def _time_ns(self, view: InstanceView, tokens: int) -> int:
        """Predicted time of a batch of so many tokens; 0 where nobody predicts."""
        size = 1 << (tokens - 1).bit_length()
        if size not in self._times:
            try:
                self._times[size] = view.chunk_time_ns(size)
            except MissingCapabilityError:
                self._times[size] = 0
        return self._times[size]

    # -- long ones ---------------------------------------------------------------------------------------------

    def _chunk(self, view: InstanceView, long: list[Prompt]) -> list[Work]:
        """A chunk of the one at work, else of the first that can go on or start."""
        for sequence, tokens in sorted(long, key=lambda one: one[0].id != self._long):
            if sequence.state == "waiting" and not sequence.swapped:
                room = view.free_blocks * view.block_tokens
                if tokens > room or len(view.running) >= self.max_num_seqs:
                    return []  # a prompt starts only when all of it fits, and nobody overtakes
            work = view.take(sequence, self.chunk_tokens)
            if work:
                self._long = sequence.id
                return [work]
        return []


def _shape(tokens: int) -> int:
    """The captured length that holds so many tokens."""
    return max(LEAST_BUCKET, 1 << (tokens - 1).bit_length())
