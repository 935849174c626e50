from __future__ import annotations

import torch
from hypothesis import given, strategies as st

from headway.engine.layout import Reach, Span, lay_out

BLOCK = 4


@st.composite
def spans(draw: st.DrawFn) -> list[Span]:
    made = []
    free = list(draw(st.permutations(range(120))))
    for _ in range(draw(st.integers(1, 6))):
        start, tokens = draw(st.integers(0, 40)), draw(st.sampled_from([1, 1, 1, 2, 3, 9, 12]))
        blocks = [
            free.pop() for _ in range(-(-(start + tokens) // BLOCK) + draw(st.integers(0, 2)))
        ]
        made.append(Span(start, tokens, blocks))
    return made


def slot(span: Span, position: int) -> int:
    return span.blocks[position // BLOCK] * BLOCK + position % BLOCK


def seen(reach: Reach, sequences: int, tokens: int, member: int, token: int) -> list[int]:
    slots = reach.slots.view(sequences, -1)[member]
    if reach.mask is None:
        return slots.tolist()
    assert reach.mask.shape == (sequences, 1, tokens, slots.shape[0])
    return slots[reach.mask[member, 0, token] == 0].tolist()


@given(spans(), st.integers(1, 20))
def test_every_token_sees_exactly_its_past(works: list[Span], window: int) -> None:
    layout = lay_out(works, BLOCK, window)
    found = {row: index for index, row in enumerate(layout.rows)}
    rows = 0
    for group in layout.groups:
        for member in range(group.sequences):
            row = group.first + member * group.tokens
            span = works[found[row]]
            rows += group.tokens
            assert span.tokens == group.tokens
            for token in range(span.tokens):
                position = span.start + token
                assert layout.positions[row + token] == position
                assert layout.slots[row + token] == slot(span, position)
                wide = seen(group.wide, group.sequences, group.tokens, member, token)
                local = seen(group.local, group.sequences, group.tokens, member, token)
                assert wide == [slot(span, key) for key in range(position + 1)]
                first = max(0, position - window + 1)
                assert local == [slot(span, key) for key in range(first, position + 1)]
    assert rows == sum(span.tokens for span in works) == len(layout.positions)


@given(spans(), st.integers(1, 20))
def test_padding_reads_own_slots_only(works: list[Span], window: int) -> None:
    layout = lay_out(works, BLOCK, window)
    by_row = dict(zip(layout.rows, works, strict=True))
    for group in layout.groups:
        for reach in (group.wide, group.local):
            for member, slots in enumerate(reach.slots.view(group.sequences, -1)):
                own = by_row[group.first + member * group.tokens].blocks
                assert set((slots // BLOCK).tolist()) <= set(own)


def test_contexts_of_very_different_length_are_not_padded_to_each_other() -> None:
    long, short = Span(4000, 1, range(1001)), Span(10, 1, [1001, 1002, 1003])
    layout = lay_out([long, short, short], BLOCK, 512)
    assert sorted(len(group.wide.slots) for group in layout.groups) == [22, 4001]
    assert all(reach.dtype == torch.long for reach in (layout.slots, layout.positions))
