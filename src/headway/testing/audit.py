"""Do the books of an instance agree with each other? Read-only; meant to run between two events."""

# ruff: noqa: SLF001 - an audit looks inside.

from __future__ import annotations

from collections import Counter
from typing import cast

from headway.core.sequence import ENTERING, LEAVING, RESTING, RUNNING, WAITING, Sequence
from headway.runtime.instance import Instance
from headway.runtime.prefix_index import PrefixNode


def audit(instance: Instance) -> None:
    """Raise AssertionError for the first thing that is wrong."""
    entering = instance.moves.imports.entering.values()
    holders = {s for s in (*instance.orphans, *instance.sequences.values(), *entering) if s.blocks}
    _audit_blocks(instance, holders)
    _audit_queues(instance)
    _audit_leases(instance)


def _audit_blocks(instance: Instance, holders: set[Sequence]) -> None:
    pool, index = instance.pool, instance.pool.index
    nodes: list[PrefixNode] = []
    if index is not None:
        nodes = [node for table in index._nodes.values() for node in table.values()]
    owned: list[int] = [block for node in nodes for block in node.blocks]
    cached, holding = len(owned), Counter[PrefixNode]()
    for sequence in holders:
        held = cast("tuple[PrefixNode, ...]", sequence.nodes)
        shared = [block for node in held for block in node.blocks]
        assert sequence.blocks[: len(shared)] == shared, (
            f"{sequence!r}: its table does not begin with the blocks of its extents"
        )
        assert sequence.capacity_tokens == len(sequence.blocks) * pool.block_tokens, (
            f"{sequence!r}: {len(sequence.blocks)} blocks, room for {sequence.capacity_tokens} tokens"
        )
        if not sequence.swapped:
            assert sequence.computed_tokens <= sequence.capacity_tokens, (
                f"{sequence!r}: more KV than room ({sequence.capacity_tokens} tokens)"
            )
        owned += sequence.blocks[len(shared) :]
        holding.update(held)
    private = len(owned) - cached
    owned += pool.unused()
    assert len(owned) == len(set(owned)), (
        f"a KV block has two owners: {[b for b, n in Counter(owned).items() if n > 1][:5]}"
    )
    assert len(owned) == pool.total, f"{pool.total - len(owned)} of {pool.total} KV blocks are lost"
    evictable = sum(len(node.blocks) for node in nodes if not node.holders)
    assert pool.free == pool.total - private - (cached - evictable), (
        f"{pool.free} blocks are said to be free, {private} private, {cached} cached, {evictable} evictable"
    )
    if index is not None:
        assert (index.evictable_blocks, index.held_blocks) == (evictable, cached - evictable)
        assert {node: node.holders for node in nodes if node.holders} == dict(holding), (
            "an extent counts other holders than the sequences that hold it"
        )


def _audit_queues(instance: Instance) -> None:
    queues, key = instance.queues, instance.ordering.key
    by_state: dict[str, set[Sequence]] = {}
    for sequence in instance.sequences.values():
        by_state.setdefault(sequence.state, set()).add(sequence)
    for name, listed, state in (
        ("waiting", queues.waiting, WAITING),
        ("running", queues.running, RUNNING),
    ):
        assert len(listed) == len(set(listed)), f"a sequence is twice in {name}"
        assert set(listed) == by_state.get(state, set()), f"{name} does not list who is {state}"
        if not instance.dynamic:
            keys = [key(sequence) for sequence in listed]
            assert keys == sorted(keys), f"{name} is not in the ordering policy's order"
    halves = [*queues.decoding, *queues.prefilling]
    assert len(halves) == len(queues.running) and set(halves) == set(queues.running), (
        "running is not decoding and prefilling together"
    )
    for sequence in instance.sequences.values():
        assert sequence.state in (RUNNING, WAITING, RESTING, LEAVING, ENTERING), repr(sequence)
        if sequence.state == WAITING:
            assert not sequence.blocks, f"{sequence!r} waits and holds blocks"


def _audit_leases(instance: Instance) -> None:
    flying = Counter[Sequence]()
    for lane, flights in instance.flights.items():
        assert len(flights) <= instance.lanes[lane], f"lane {lane} is too deep"
        for flight in flights:
            unwritten = () if flight.leased else flight.step.decodes  # see `launch.Flight`
            flying.update(work.sequence for work in flight.step.work[len(unwritten) :])
    assert instance.busy == sum(len(flights) for flights in instance.flights.values())
    for sequence in instance.sequences.values():
        exports = instance.moves.exports  # between two parts of a move nothing holds a sequence
        kept = sequence.id in exports.parked or sequence.id in exports.open
        moving = sequence.state in (LEAVING, ENTERING) and not (kept and not sequence.leases)
        expected = flying[sequence] + moving
        assert sequence.leases == expected, (
            f"{sequence!r} has {sequence.leases} leases, {expected} steps and transfers hold it"
        )
        assert (sequence.lane is not None) == bool(flying[sequence]), f"{sequence!r}: lane"
        assert not moving or not flying[sequence], f"{sequence!r} moves while a step holds it"
        if not instance.overlapped:
            assert not sequence.pending_tokens and not sequence.pending_output, repr(sequence)
