"""What a batching policy sees of one instance, and the draft of the plan it is making.

Reservations live in the draft: nothing happens until the plan was returned and checked. When blocks run out
the memory policy is asked whom to move.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence as Seq
from random import Random
from typing import TYPE_CHECKING

from headway.core.plan import SWAP_OUT, Step, Work
from headway.core.sequence import WAITING, Sequence
from headway.errors import MissingCapabilityError, PlanError
from headway.runtime.blame import asked, draft_lengths, victims_of
from headway.runtime.prefix_index import PrefixNode
from headway.runtime.works import DecodeWorks

if TYPE_CHECKING:
    from headway.runtime.instance import Instance


class Draft:
    """What the plan being made would take: cleared by `open`, carried out by `runtime.moves`."""

    __slots__ = ("matches", "moves", "pinned", "preempted", "swapped_in", "swapped_out", "taken")

    def __init__(self) -> None:
        self.taken: set[Sequence] = set()
        self.preempted: list[Sequence] = []
        self.swapped_out: list[Sequence] = []
        self.swapped_in: list[Sequence] = []
        self.matches: dict[Sequence, list[PrefixNode]] = {}
        self.pinned: set[PrefixNode] = set()  # cached extents that this plan starts on
        self.moves = 0  # sequences this plan moves

    def clear(self) -> None:
        """Start anew. Lists are replaced: who keeps a plan may keep them too."""
        self.taken.clear()
        if self.matches:
            self.matches, self.pinned = {}, set()
        if self.moves:
            self.preempted, self.swapped_out, self.swapped_in = [], [], []
            self.moves = 0


class View:
    """Implements `core.views.InstanceView`."""

    def __init__(self, instance: Instance, rng: Random) -> None:
        self._instance, self._pool, self._queues = instance, instance.pool, instance.queues
        self.rng = rng
        self.step_tokens = instance.step_tokens
        self.block_tokens = instance.pool.block_tokens
        self.layers = instance.layers
        self.waiting: Seq[Sequence] = instance.queues.waiting
        self.running: Seq[Sequence] = instance.queues.running
        self.decoding: Seq[Sequence] = instance.queues.decoding
        self.prefilling: Seq[Sequence] = instance.queues.prefilling
        self.now_ns = 0
        self.idle_lanes: Seq[str] = ()
        self.free_blocks = 0
        self.draft = Draft()
        self.all_decodes = DecodeWorks()  # kept while nobody joins or leaves
        self.growing: list[Sequence] = []  # of those, the ones that need a block for this step
        self.decodes_taken = False
        self.taken_tokens = 0
        self._works_version = -1

    def open(self, now_ns: int, idle_lanes: Seq[str]) -> None:
        """Start the draft of a new plan."""
        self.now_ns, self.idle_lanes, self.free_blocks = now_ns, idle_lanes, self._pool.free
        draft = self.draft
        if draft.taken or draft.moves:
            draft.clear()
        self.decodes_taken = False
        self.taken_tokens = 0

    def in_flight(self, lane: str) -> Seq[Work]:
        """Works of the lane's newest step; empty when idle."""
        flights = self._instance.flights[lane]
        return list(flights[-1].step.work) if flights else []

    def uncached_tokens(self, sequence: Sequence) -> int:
        """Input it has left to compute, without what the prefix cache holds of it."""
        nodes: Seq[PrefixNode] = ()
        if sequence.state == WAITING and not sequence.blocks and not sequence.swapped:
            nodes, _ = self._match(sequence)
        cached = nodes[-1].end_blocks * self.block_tokens if nodes else 0
        return sequence.remaining_tokens - cached

    # -- asking for work -----------------------------------------------------------------------------------------

    def take_decodes(
        self, lane: str = "main", *, draft_tokens: int | None = None, limit: int | None = None
    ) -> list[Work]:
        """One token (and drafts) for every decode that can advance, in order."""
        if self.decodes_taken:
            return []  # another lane has them all
        decoding = self._queues.decoding
        drafts = self._drafts(decoding) if draft_tokens is None else draft_tokens
        most = self.step_tokens if limit is None else min(self.step_tokens, limit)
        if (
            not drafts
            and len(decoding) <= most
            and not self._instance.busy
            and not self.draft.taken
        ):
            growing = [s for s in decoding if s.computed_tokens >= s.capacity_tokens]
            if len(growing) <= self.free_blocks and not self._half_done(decoding):
                self.free_blocks -= len(growing)
                self.growing = growing
                self.decodes_taken = True
                self.taken_tokens += len(decoding)
                return self._every_decode()
        return self._decode_works(lane, list(decoding), drafts, most)

    def _drafts(self, decoding: Seq[Sequence]) -> int | list[int]:
        """What the speculation policy says: 0 for all, or a number for each."""
        speculation = self._instance.speculation
        if speculation is None or not decoding:
            return 0
        drafts = asked(speculation, "drafts", draft_lengths, self, decoding)
        if isinstance(drafts, list) and len(drafts) != len(decoding):
            raise PlanError(
                f"{type(speculation).__name__}: {len(drafts)} draft lengths for {len(decoding)} decodes"
            )
        return drafts if isinstance(drafts, int) or any(drafts) else 0

    def _decode_works(
        self, lane: str, decoding: list[Sequence], drafts: int | list[int], most: int
    ) -> list[Work]:
        works: list[Work] = []
        left = most
        for n, sequence in enumerate(decoding):
            wanted = drafts if isinstance(drafts, int) else drafts[n]
            wanted = min(wanted, sequence.max_tokens - sequence.output_tokens - 1)
            if left <= 0:
                break
            wanted = min(wanted, left - 1)
            work = self.take(sequence, 1 + wanted, lane, draft_tokens=wanted)
            if work:
                works.append(work)
                left -= work.tokens
        return works

    def _half_done(self, sequences: Seq[Sequence]) -> bool:
        return self._instance.partials and any(s.partial for s in sequences)

    def _every_decode(self) -> DecodeWorks:
        if self._works_version != self._queues.decode_version:
            self._works_version = self._queues.decode_version
            self.all_decodes = DecodeWorks(self._queues.decoding)
        return self.all_decodes

    def take_prefills(
        self, lane: str = "main", *, tokens: int, sequences: int | None = None, whole: bool = False
    ) -> list[Work]:
        """Chunks in order, running prefills first, then waiting ones: nobody overtakes."""
        works: list[Work] = []
        left = min(tokens, self.step_tokens)
        full = left
        for sequence in list(self._queues.prefilling):
            if left <= 0:
                return works
            work = self.take(sequence, left, lane)
            if work is not None and work.tokens <= left:
                works.append(work)
                left -= work.tokens
        running = len(self._queues.running)
        moves = self.draft.moves
        for sequence in self._queues.waiting:
            if left <= 0 or (sequences is not None and running >= sequences):
                break
            if (
                whole
                and works
                and sequence.remaining_tokens > left
                and sequence.remaining_tokens <= full
            ):
                break
            work = None
            if sequence.swapped or self._prompt_fits(sequence):
                work = self.take(sequence, left, lane)
            if work is not None:
                works.append(work)
                left -= work.tokens
                running += 1
            elif self.draft.moves == moves:
                break  # no room: nobody behind it goes first
            else:
                moves = self.draft.moves  # it is on its way back from the host
        return works

    def _prompt_fits(self, sequence: Sequence) -> bool:
        need = self._pool.missing(sequence, sequence.total_tokens)
        return need <= self.free_blocks or self.blocks_to_start(sequence) <= self.free_blocks

    def take(
        self,
        sequence: Sequence,
        tokens: int,
        lane: str = "main",
        *,
        draft_tokens: int = 0,
        layers: tuple[int, int] | None = None,
        pad_to: int | None = None,
    ) -> Work | None:
        """Reserve blocks for at most `tokens` more tokens; None when it cannot advance in this plan."""
        draft, instance = self.draft, self._instance
        if sequence in draft.taken or (
            sequence.leases and not instance.may_overlap(sequence, lane)
        ):
            return None
        if self.decodes_taken and sequence.decodes:
            return None
        if sequence.state == WAITING and draft.preempted and self._takes_what_was_freed(sequence):
            return None
        if sequence.swapped:
            self._swap_in(sequence)
            return None
        nodes: Seq[PrefixNode] = ()
        unheld = cached = 0
        if sequence.partial:
            tokens = sequence.partial[0]
            layers = (sequence.partial[1], layers[1] if layers else instance.layers)
        elif sequence.denoises:
            if sequence.denoise_tokens > tokens:
                return None  # a denoising step is not cut
            tokens = sequence.denoise_tokens
        else:
            if sequence.state == WAITING and not sequence.blocks:
                nodes, unheld = self._match(sequence)
                cached = nodes[-1].end_blocks * self.block_tokens if nodes else 0
            if not draft_tokens:
                tokens = min(tokens, sequence.remaining_tokens - cached)
        reached = max(sequence.computed_tokens, cached) + sequence.pending_tokens + tokens
        if sequence.denoises:
            reached = sequence.total_tokens
        held = len(sequence.blocks) if not cached else cached // self.block_tokens
        need = max(0, -(-reached // self.block_tokens) - held) + unheld
        if need > self.free_blocks and (
            sequence.state == WAITING or not self._make_room(need, sequence)
        ):
            return None
        self.free_blocks -= need
        self.taken_tokens += tokens
        draft.taken.add(sequence)
        if nodes:
            draft.matches[sequence] = list(nodes)
            draft.pinned.update(nodes)
        if tokens == 1 and layers is None and not pad_to:
            return sequence.decode
        return Work(sequence, tokens, layers, draft_tokens, None, pad_to)

    def _match(self, sequence: Sequence) -> tuple[Seq[PrefixNode], int]:
        """Cached extents to start on, and the blocks that holding them takes from what is free."""
        index = self._pool.index
        if index is None or not sequence.request.prefix:
            return (), 0
        nodes = index.match(sequence.request, self.block_tokens)
        pinned = self.draft.pinned
        return nodes, index.unheld_blocks([node for node in nodes if node not in pinned])

    # -- making room ---------------------------------------------------------------------------------------------

    def _make_room(self, blocks: int, asker: Sequence) -> bool:
        """Ask the memory policy to move sequences behind `asker`. False: not now, perhaps after a swap."""
        draft = self.draft
        candidates = []
        for sequence in reversed(self._queues.running):
            if sequence is asker:
                break
            if not sequence.leases and sequence not in draft.taken and sequence.blocks:
                if self.decodes_taken and sequence.decodes:
                    continue
                candidates.append(sequence)
        coming = self._instance.moves.leaving_blocks if self._instance.preempts else 0
        lacking = blocks - self.free_blocks - coming
        if lacking > 0:
            memory = self._instance.memory
            self.move_out(asked(memory, "victims", victims_of, self, lacking, candidates))
        return blocks <= self.free_blocks

    def move_out(self, victims: Iterable[tuple[Sequence, str]]) -> list[Sequence]:
        """Record whom the memory policy chose; returns them."""
        draft, moved = self.draft, list[Sequence]()
        for victim, how in list(victims):
            draft.taken.add(victim)
            draft.moves += 1
            moved.append(victim)
            if how == SWAP_OUT and self._instance.host_has_room(victim):
                draft.swapped_out.append(victim)
            else:
                draft.preempted.append(victim)
                self.free_blocks += self._pool.private_blocks(victim, draft.pinned)
        return moved

    def blocks_to_start(self, sequence: Sequence) -> int:
        """Blocks that a waiting sequence takes from what is free until its input is computed."""
        need = self._pool.missing(sequence, sequence.total_tokens)
        if sequence.swapped:
            return need
        nodes, unheld = self._match(sequence)
        return need - sum(len(node.blocks) for node in nodes) + unheld

    def _takes_what_was_freed(self, sequence: Sequence) -> bool:
        """Would who starts now take what somebody was just sent away for? Not if it goes before all of those."""
        if not self._instance.preempts:
            return True
        return any(victim.order < sequence.order for victim in self.draft.preempted)

    def _swap_in(self, sequence: Sequence) -> None:
        """With a block to spare for everyone who runs, or the next step would send it away again."""
        need = self._pool.missing(sequence, sequence.computed_tokens)
        running = len(self._queues.running)
        if need + running <= self.free_blocks or (need <= self.free_blocks and not running):
            self.free_blocks -= need
            self.draft.taken.add(sequence)
            self.draft.swapped_in.append(sequence)
            self.draft.moves += 1

    # -- predictions ---------------------------------------------------------------------------------------------

    def step_time_ns(self, works: Seq[Work]) -> int:
        """Predicted duration of a step of `works`."""
        timing = self._instance.timing
        if timing is None:
            raise MissingCapabilityError(
                "this world predicts no step times: calibrate first, or do not ask"
            )
        return timing.durations_ns(Step(0, "main", works), 1)[0]

    def chunk_time_ns(self, tokens: int, context_tokens: int = 0) -> int:
        """Predicted duration of one prefill chunk alone."""
        timing = self._instance.timing
        if timing is None:
            raise MissingCapabilityError(
                "this world predicts no step times: calibrate first, or do not ask"
            )
        return timing.chunk_time_ns(tokens, context_tokens)
