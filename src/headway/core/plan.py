"""What a batching policy decides, what an executor is given, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from headway.core.sampling import TokenLogprob

if TYPE_CHECKING:
    from headway.core.sequence import Sequence

LayerRange = tuple[int, int]
"""[first, last) of the model's layers."""

STEP, LAYER = "step", "layer"  # boundaries at which a step can be interrupted
DONE, INTERRUPTED, FAILED = "done", "interrupted", "failed"  # StepResult.status
SWAP_OUT, SWAP_IN, EXPORT, IMPORT = "swap_out", "swap_in", "export", "import"  # Transfer.kind
COPY_OUT, COPY_IN = "copy_out", "copy_in"  # likewise, of a stage: the sequence goes on meanwhile
KEEP = "keep"  # likewise, to the host: its request has ended and its KV may serve the next turn


class Work(NamedTuple):
    """Tokens of one sequence in one step. Made by `view.take`, never by hand."""

    sequence: Sequence
    tokens: int  # computed in this step, drafts included
    layers: LayerRange | None = None  # None: the whole model
    draft_tokens: int = 0
    device: str | None = None  # None: the instance's own
    pad_to: int | None = None  # tokens the kernel is padded to


@dataclass(slots=True)
class StepPlan:
    """A batching policy's decision for idle lanes. Preemptions and swaps are not here: the view records them.

    `steady` promises: with the same members and no event, the policy would return this plan again (a chunk
    counts as the same while it does not complete its prompt). The runtime may then leap over repeats.
    """

    work: Mapping[str, Seq[Work]] = field(default_factory=dict)  # lane -> works
    shares: Mapping[str, int] = field(default_factory=dict)  # lane -> per mille of the device
    shed: Seq[Sequence] = ()  # waiting or running sequences to give up
    wake_at_ns: int | None = None  # plan again at this time even if nothing happens
    steady: bool = False
    nano_batches: int = 1  # > 1: operators of so many parts of the batch overlap (NanoFlow)


class Step(NamedTuple):
    """A batch on its way to the executor; `repeats` > 1 is a leap."""

    id: int
    lane: str
    work: Seq[Work]
    repeats: int = 1
    share: int | None = None
    key: int = 0  # orders simultaneous results: stable under leaping
    decodes: Seq[Sequence] = ()  # of the first works: plain decodes (one token, whole model)
    nano_batches: int = 1


class WorkDone(NamedTuple):
    """What a step did for one work. In a leap: for all repeats that landed, together."""

    layers: int  # layers done of this chunk, counted from layer 0
    tokens: int  # tokens whose KV is now valid
    emitted: int  # output tokens: 0 … draft_tokens + 1 a repeat
    ended: bool = False  # the model said stop, or max_tokens is reached
    ids: Seq[int] = ()  # the emitted ids; empty in the simulator
    logprobs: Seq[TokenLogprob] = ()  # parallel to `ids` when the request asked for them
    error: str = ""  # why this work's request cannot go on; the step's other works are not touched


class StepResult(NamedTuple):
    """`ends_ns` has one end per landed repeat; `done` is parallel to the step's works, empty when failed."""

    status: str
    done: Seq[WorkDone]
    ends_ns: Seq[int]
    error: str = ""  # of a failed step
    parts_ns: Seq[tuple[str, int]] = ()  # what the executor spent its time on, where it knows


class Transfer(NamedTuple):
    """The only way KV moves: host swap, prefill to decode, migration, tiers.

    Blocks `first` to `first + blocks` of the sequence's table. Between instances both ends see one: `export` or
    `copy_out` makes KV ready, `import` or `copy_in` pulls it and is the one that takes the link's time.
    `extents`: contiguous pieces that are copied one by one; 1 also where the blocks are gathered on the way.
    With `copies`, a `swap_out` or `keep` from `first` on adds to the blocks before, which the host has already.
    """

    id: int
    kind: str
    sequence: Sequence
    blocks: int
    peer: str = "host"
    first: int = 0
    extents: int = 1
