"""Predict step times from what a model computes and reads and what a device can do.

Nothing is fitted here: datasheet peaks, two efficiencies and four overheads of the device sheet. Calibration
replaces those fields of the sheet; the formulas stay.

`repeats=k` equals k calls with grown contexts to the nanosecond, because all that grows is counted in whole
numbers and each duration is one float expression of them, rounded on its own.

Cost: O(works + repeats) a call; with windowed layers, O(works · log works + repeats · chunks).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence as Seq

import numpy as np

from headway.core import Step, Transfer, Work
from headway.errors import OptionError
from headway.timing.attention_pairs import windowed_decode_sums
from headway.timing.chunk import AttentionSums, Chunk, sum_chunks
from headway.timing.coefficients import Coefficients
from headway.timing.contention import Contention, StepParts
from headway.timing.denoising import denoising_sums
from headway.timing.device_sheet import DeviceSheet
from headway.timing.link import Link
from headway.timing.model_sheet import ModelSheet
from headway.timing.overlap import nano_ns
from headway.timing.parallelism import check_tensor_parallel

_HOST = "host"
_KV_TENSORS = 2  # of a layer: keys and values
_VECTOR_REPEATS = 48  # from here numpy is faster than the loop, with the same bits
_MEMO_SIZE = 1 << 16


class Roofline:
    """A timing model for one instance of `model` on `tp` devices.

    `graphs`: kernels are launched as captured graphs, so that the host is not in the way.
    Sequences' `pending_tokens` must not include the step that is being asked about.
    """

    prices_nano_batches = True

    def __init__(
        self,
        model: ModelSheet,
        device: DeviceSheet,
        tp: int = 1,
        *,
        block_tokens: int = 16,
        peer_link: Link | None = None,
        graphs: bool = True,
        contention: Contention | None = None,
    ) -> None:
        check_tensor_parallel(model, tp)
        if block_tokens < 1:
            raise OptionError(f"block_tokens is {block_tokens}: use at least 1")
        self.model, self.device, self.tp, self.layers = model, device, tp, model.layers
        self.block_tokens = block_tokens
        self.peer_link = peer_link or device.network
        self.contention = contention or Contention()
        self._asked: dict[str, tuple[Step, StepParts]] = {}  # by lane: asked again while in flight
        self._costs = Coefficients(model, device, tp, graphs=graphs)
        self._windowed_layers = model.windowed_layers
        self._full_layers = model.attention_layers - model.windowed_layers
        self._window = (model.window or 0) if model.windowed_layers else 0
        self._fixed: dict[tuple[int, int], float] = {}
        self._step_ns, self._sequence_ns = device.step_ns, device.sequence_ns

    def durations_ns(self, step: Step, repeats: int) -> list[int]:
        """Whole nanoseconds of each repeat; every repeat finds each context longer by its work's tokens."""
        if step.nano_batches > 1:
            others = step.work[len(step.decodes) :]
            if not any(work.layers or work.sequence.denoises for work in others):
                return self._nano_ns(step, repeats)
        known = step.decodes
        decodes = rows = len(known)
        chunks: list[Chunk] = []
        windowed: list[int] | None = None
        if self._window:
            windowed = [s.computed_tokens + s.pending_tokens for s in known]
            contexts = sum(windowed)
        else:
            contexts = sum([s.computed_tokens + s.pending_tokens for s in known])
        for sequence, tokens, layers, drafts, _, pad_to in step.work[decodes:]:
            if layers is not None:
                return self._layered_ns(step.work, repeats)
            if sequence.denoises:
                return [self._denoising_ns(step.work)] * repeats  # leaps do not mix with others
            context = sequence.computed_tokens + sequence.pending_tokens
            if tokens == 1 and pad_to is None:
                decodes += 1
                contexts += context
                if context + 1 >= sequence.total_tokens + sequence.pending_output:
                    rows += 1
                if windowed is not None:
                    windowed.append(context)
            else:
                if context + tokens - drafts >= sequence.total_tokens + sequence.pending_output:
                    rows += drafts + 1
                padded = tokens if pad_to is None or pad_to < tokens else pad_to
                chunks.append(Chunk(tokens, padded, context, absorbed=tokens == drafts + 1))
        works = len(step.work)
        if windowed is not None:
            return self._windowed_ns(windowed, chunks, rows, works, repeats)
        return self._even_ns(decodes, contexts, chunks, rows, works, repeats)

    def transfer_ns(self, transfer: Transfer) -> int:
        """Time the KV of `blocks` blocks holds the link; every device moves its own share at once.

        To the host, every extent beyond the first costs a launch for each tensor of KV: two in each layer. The first
        is in the link's latency. vLLM's copies of one block moved 3.1 GB/s on an A100's PCIe 4, gathered ones 12.5
        (its pull request 11531); 32 KiB a copy and a launch of 8 µs make 3.5 GB/s.
        """
        host = transfer.peer == _HOST
        link = self.device.host if host else self.peer_link
        tokens = transfer.blocks * self.block_tokens
        moved_ns = link.transfer_ns(tokens * self.model.kv_bytes_per_token(self.tp))
        if not host or transfer.extents <= 1:
            return moved_ns
        copies = (transfer.extents - 1) * self.model.attention_layers * _KV_TENSORS
        return moved_ns + copies * self.device.launch_ns

    def step_ns(
        self,
        decodes: int,
        context_tokens: int,
        chunks: Iterable[tuple[int, int]] = (),
        *,
        completing: int = 0,
    ) -> int:
        """Time of a step that need not exist: `decodes` sequences with `context_tokens` in all, and chunks.

        Chunks are (tokens, context); `completing` of them end their prompt and sample a token. With
        windowed layers, decodes are taken to have equal contexts.
        """
        parts = [Chunk(tokens, tokens, context, absorbed=False) for tokens, context in chunks]
        rows, works = decodes + completing, decodes + len(parts)
        if not self._window:
            return self._even_ns(decodes, context_tokens, parts, rows, works, 1)[0]
        each, longer = divmod(context_tokens, max(decodes, 1))
        contexts = [each + (index < longer) for index in range(decodes)]
        return self._windowed_ns(contexts, parts, rows, works, 1)[0]

    def rates(self, steps: Seq[Step], shares: Seq[int]) -> list[int]:
        """Per mille of each step's speed alone when they run side by side at `shares` per mille of the device."""
        parts = []
        for step in steps:
            asked, known = self._asked.get(step.lane, (None, None))
            if asked is not step or known is None or step.repeats > 1:
                known = self.parts(step)
                self._asked[step.lane] = step, known
            parts.append(known)
        return self.contention.rates(parts, shares)

    def parts(self, step: Step) -> StepParts:
        """What a step computes, what it reads, and what no share of the device changes."""
        costs, rows, deepest, decodes, contexts = self._costs, 0, 0, 0, 0
        by_depth: dict[int, list[Chunk]] = {}
        for sequence, count, layers, drafts, _, pad_to in step.work:
            first, last = layers or (0, self.layers)
            context = sequence.computed_tokens + sequence.pending_tokens
            ends = context + count - drafts >= sequence.total_tokens + sequence.pending_output
            rows += drafts + 1 if ends and last == self.layers else 0
            if count == 1 and not (layers or pad_to or self._window):
                decodes += 1
                contexts += context
                continue
            chunk = Chunk(count, max(count, pad_to or 0), context, count == drafts + 1)
            by_depth.setdefault(last - first, []).append(chunk)
            deepest = max(deepest, last - first)
        if decodes:
            deepest = self.layers
        tokens = float(decodes)
        pair_ns = (contexts + decodes) * self._full_layers * costs.decode_pair_ns
        move_ns = (contexts + 2 * decodes) * self._full_layers * costs.kv_token_ns
        for layers_done, chunks in by_depth.items():
            part, sums = layers_done / self.layers, self._attention_sums(chunks, 0)
            tokens += layers_done / deepest * sum(chunk.padded for chunk in chunks)
            pair_ns += part * sums.decode * costs.decode_pair_ns
            pair_ns += part * sums.prefill * costs.chunk_pair_ns
            move_ns += part * sums.reads * costs.kv_token_ns
        depth, whole = deepest / self.layers, round(tokens)
        flop_ns, read_ns = costs.linear_parts_ns(whole)
        head_flop_ns, head_read_ns = rows * costs.head_flop_ns, costs.head_read_ns if rows else 0.0
        rest_ns = depth * (costs.layers_ns(whole) - max(flop_ns, read_ns)) + costs.head_ns(rows)
        rest_ns += self._step_ns + len(step.work) * self._sequence_ns
        groups = (
            (int(depth * flop_ns), int(depth * read_ns)),
            (int(pair_ns), int(move_ns)),
            (int(head_flop_ns), int(head_read_ns)),
        )
        return StepParts(groups, int(rest_ns - max(head_flop_ns, head_read_ns)))

    def chunk_time_ns(self, tokens: int, context_tokens: int = 0) -> int:
        """Time of one prefill chunk alone, the token sampled at its end included."""
        return self.step_ns(0, 0, [(tokens, context_tokens)], completing=1)

    def _even_ns(
        self,
        decodes: int,
        contexts: int,
        chunks: Seq[Chunk],
        rows: int,
        works: int,
        repeats: int,
    ) -> list[int]:
        """All attention layers cost the same, so that sums over the sequences are all it takes."""
        layers = self._full_layers
        tokens, prefill, grow_prefill = decodes, 0, 0
        decode = contexts + decodes
        reads, grow_decode, grow_reads = decode + decodes, decodes, decodes
        if chunks:
            sums, growth, padded = sum_chunks(chunks)
            tokens += padded
            decode, prefill, reads = decode + sums.decode, sums.prefill, reads + sums.reads
            grow_decode += growth.decode
            grow_prefill = growth.prefill * layers
            grow_reads += growth.reads
        fixed_ns = self._fixed.get((tokens, rows)) or self._fix(tokens, rows)
        overhead_ns = self._step_ns + works * self._sequence_ns + 0.5
        costs = self._costs
        decode_ns, prefill_ns, read_ns = (
            costs.decode_pair_ns,
            costs.chunk_pair_ns,
            costs.kv_token_ns,
        )
        decode, prefill, reads = decode * layers, prefill * layers, reads * layers
        grow_decode, grow_reads = grow_decode * layers, grow_reads * layers
        if not prefill and repeats > 1:
            # Decodes only: where reading outweighs computing at both ends, it does all along.
            last, margin = repeats - 1, 1.0001 * decode_ns
            first_reads, last_reads = reads * read_ns, (reads + last * grow_reads) * read_ns
            if (
                decode * margin < first_reads
                and (decode + last * grow_decode) * margin < last_reads
            ):
                every = range(reads, reads + repeats * grow_reads, grow_reads)
                return _reading_ns(fixed_ns, every, read_ns, overhead_ns)
        if repeats >= _VECTOR_REPEATS:
            index = np.arange(repeats)
            flops = (decode + index * grow_decode) * decode_ns
            flops += (prefill + index * grow_prefill) * prefill_ns
            moves = (reads + index * grow_reads) * read_ns
            times = fixed_ns + np.maximum(flops, moves) + overhead_ns
            whole: list[int] = times.astype(np.int64).tolist()
            return whole
        durations = []
        for _ in range(repeats):
            flop_ns = decode * decode_ns + prefill * prefill_ns
            move_ns = reads * read_ns
            durations.append(
                int(fixed_ns + (flop_ns if flop_ns > move_ns else move_ns) + overhead_ns)
            )
            decode += grow_decode
            prefill += grow_prefill
            reads += grow_reads
        return durations

    def _windowed_ns(
        self, contexts: Seq[int], chunks: Seq[Chunk], rows: int, works: int, repeats: int
    ) -> list[int]:
        """Some layers see only the last tokens of each sequence: contexts no longer add up."""
        decodes, full, windowed = len(contexts), self._full_layers, self._windowed_layers
        tokens = decodes + sum(chunk.padded for chunk in chunks)
        fixed_ns = self._fixed.get((tokens, rows)) or self._fix(tokens, rows)
        overhead_ns = self._step_ns + works * self._sequence_ns + 0.5
        writes = decodes * (full + windowed)
        everything = sum(contexts) + decodes
        durations = []
        for repeat, recent in enumerate(windowed_decode_sums(contexts, self._window, repeats)):
            pairs = full * (everything + repeat * decodes) + windowed * recent
            decode, prefill, reads = pairs, 0, pairs + writes
            if chunks:
                more = self._attention_sums(chunks, repeat)
                decode, prefill, reads = decode + more.decode, more.prefill, reads + more.reads
            durations.append(int(fixed_ns + self._attend_ns(decode, prefill, reads) + overhead_ns))
        return durations

    def _nano_ns(self, step: Step, repeats: int) -> list[int]:
        """The batch is cut into nano-batches whose kernels overlap; the head follows them all."""
        known = () if self._window else step.decodes
        chunks, rows = list[Chunk](), len(known)
        contexts = sum([s.computed_tokens + s.pending_tokens for s in known])
        for sequence, tokens, _, drafts, _, pad_to in step.work[rows:]:
            context = sequence.computed_tokens + sequence.pending_tokens
            if context + tokens - drafts >= sequence.total_tokens + sequence.pending_output:
                rows += drafts + 1
            absorbed = tokens == drafts + 1
            chunks.append(Chunk(tokens, max(tokens, pad_to or 0), context, absorbed))
        sums, growth, total = sum_chunks(chunks)
        count = len(known)
        sums = sums.plus(AttentionSums(contexts + count, 0, contexts + 2 * count))
        growth, total = growth.plus(AttentionSums(count, 0, count)), total + count
        parts = min(step.nano_batches, total)
        times, costs, device = self._costs.nano_layers(total, parts), self._costs, self.device
        shares = device.memory_kernel_share, device.network_kernel_share
        overhead_ns = self._step_ns + len(step.work) * self._sequence_ns + 0.5
        overhead_ns += costs.head_ns(rows)
        full, added = sums.times(self._full_layers), growth.times(self._full_layers)
        durations = []
        for repeat in range(repeats):
            sums = self._attention_sums(chunks, repeat) if self._window else full
            flop_ns = sums.decode * costs.decode_pair_ns + sums.prefill * costs.chunk_pair_ns
            move_ns = sums.reads * costs.kv_token_ns
            durations.append(int(nano_ns(times, flop_ns, move_ns, parts, *shares) + overhead_ns))
            full = full.plus(added)
        return durations

    def _layered_ns(self, works: Seq[Work], repeats: int) -> list[int]:
        """Works cover different layers: each run of layers with the same works is a step of its own depth.

        The head follows the last layer, for works that reach it and the end of their input.
        """
        ranges, parts, rows = [], [], 0
        for work in works:
            first, last = work.layers or (0, self.layers)
            sequence = work.sequence
            context = sequence.computed_tokens + sequence.pending_tokens
            end = sequence.total_tokens + sequence.pending_output
            if last == self.layers and context + work.tokens - work.draft_tokens >= end:
                rows += work.draft_tokens + 1
            padded = max(work.tokens, work.pad_to or 0)
            absorbed = work.tokens == work.draft_tokens + 1
            ranges.append((first, last))
            parts.append(Chunk(work.tokens, padded, context, absorbed))
        edges = sorted({edge for pair in ranges for edge in pair})
        fixed_ns = self._costs.head_ns(rows)
        runs: list[tuple[float, list[Chunk]]] = []
        for first, last in itertools.pairwise(edges):
            inside = [
                part
                for part, (low, high) in zip(parts, ranges, strict=True)
                if low <= first and last <= high
            ]
            if inside:
                depth = (last - first) / self.layers
                runs.append((depth, inside))
                fixed_ns += depth * self._costs.layers_ns(sum(part.padded for part in inside))
        overhead_ns = self._step_ns + len(works) * self._sequence_ns + 0.5
        durations = []
        for repeat in range(repeats):
            time_ns = fixed_ns
            for depth, inside in runs:
                sums = self._attention_sums(inside, repeat)
                time_ns += depth * self._attend_ns(sums.decode, sums.prefill, sums.reads)
            durations.append(int(time_ns + overhead_ns))
        return durations

    def _denoising_ns(self, works: Seq[Work]) -> int:
        """Some works are steps of a diffusion model: attention goes both ways, and each makes many logits."""
        tokens, rows, sums = denoising_sums(works)
        fixed_ns = self._costs.layers_ns(tokens) + self._costs.head_ns(rows)
        layers = sums.times(self._full_layers + self._windowed_layers)
        overhead_ns = self._step_ns + len(works) * self._sequence_ns + 0.5
        return int(fixed_ns + self._attend_ns(*layers) + overhead_ns)

    def _attention_sums(self, chunks: Seq[Chunk], repeat: int) -> AttentionSums:
        """Sums over all layers, with every context `repeat` chunks longer."""
        grown = [chunk._replace(context=chunk.context + repeat * chunk.tokens) for chunk in chunks]
        full = sum_chunks(grown)[0].times(self._full_layers)
        if not self._window:
            return full
        return full.plus(sum_chunks(grown, self._window)[0].times(self._windowed_layers))

    def _attend_ns(self, decode: int, prefill: int, reads: int) -> float:
        costs = self._costs
        flop_ns = decode * costs.decode_pair_ns + prefill * costs.chunk_pair_ns
        move_ns = reads * costs.kv_token_ns
        return flop_ns if flop_ns > move_ns else move_ns

    def _fix(self, tokens: int, rows: int) -> float:
        """Remember all that does not depend on contexts: batches come back with the same size."""
        if len(self._fixed) >= _MEMO_SIZE:
            self._fixed.clear()
        fixed_ns = self._costs.layers_ns(tokens) + self._costs.head_ns(rows)
        self._fixed[tokens, rows] = fixed_ns
        return fixed_ns


def _reading_ns(fixed_ns: float, reads: range, read_ns: float, overhead_ns: float) -> list[int]:
    """Durations that reading the KV cache decides: one float expression each, in numpy when there are many."""
    if len(reads) < _VECTOR_REPEATS:
        return [int(fixed_ns + read * read_ns + overhead_ns) for read in reads]
    moves = np.arange(reads.start, reads.stop, reads.step) * read_ns
    durations: list[int] = (fixed_ns + moves + overhead_ns).astype(np.int64).tolist()
    return durations
