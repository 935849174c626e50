from __future__ import annotations

import torch
from hypothesis import given, strategies as st

from headway.engine.layout import TILE_TOKENS, Reach, Span, lay_out

BLOCK = 4


@st.composite
def spans(draw: st.DrawFn) -> list[Span]:
    made = []
    free = list(draw(st.permutations(range(330))))
    for _ in range(draw(st.integers(1, 6))):
        start, tokens = draw(st.integers(0, 40)), draw(st.sampled_from([1, 1, 1, 2, 3, 9, 12, 131]))
        blocks = [
            free.pop() for _ in range(-(-(start + tokens) // BLOCK) + draw(st.integers(0, 2)))
        ]
        made.append(Span(start, tokens, blocks))
    return made


def slot(span: Span, position: int) -> int:
    return span.blocks[position // BLOCK] * BLOCK + position % BLOCK


def seen(reach: Reach, sequences: int, member: int, token: int) -> list[int]:
    """Slots that a query looks at, as its tile says; the tile must be the only one."""
    slots = reach.slots.view(sequences, -1)[member]
    (tile,) = [tile for tile in reach.tiles if tile.row <= token < tile.row + tile.rows]
    looks = torch.ones(tile.keys, dtype=torch.bool)
    for first, mask in tile.hidden:
        assert mask.shape[:2] == (sequences, tile.rows)
        looks[first : first + mask.shape[2]] &= ~mask[member, token - tile.row]
    assert len(slots[tile.key : tile.key + tile.keys]) == tile.keys
    return slots[tile.key : tile.key + tile.keys][looks].tolist()


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
                wide = seen(group.wide, group.sequences, member, token)
                local = seen(group.local, group.sequences, member, token)
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


def test_tiles_of_a_long_prompt_skip_what_their_queries_do_not_see() -> None:
    tokens, window = 10 * TILE_TOKENS, 2 * TILE_TOKENS
    (group,) = lay_out([Span(0, tokens, range(tokens // BLOCK))], BLOCK, window).groups
    assert [tile.keys for tile in group.wide.tiles] == [TILE_TOKENS * n for n in range(1, 11)]
    assert max(tile.keys for tile in group.local.tiles) == window + TILE_TOKENS - 1
    for tile in (*group.wide.tiles, *group.local.tiles):
        assert sum(part.mask.shape[2] for part in tile.hidden) < 2 * TILE_TOKENS
