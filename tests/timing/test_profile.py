"""Profiles: fitted step times as a timing model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from headway.core import Transfer
from headway.core.plan import SWAP_IN
from headway.errors import OptionError
from headway.timing import (
    Affine,
    KindFit,
    Pieces,
    Profile,
    Rescaled,
    Scattered,
    load_profile,
    profile_text,
    save_profile,
)

from .steps import chunk, decode, grown, prompt, step

PROFILE = Profile(
    model="a model",
    device="a device",
    layers=4,
    base_ns=1234.5,
    gap_ns=77.7,
    decodes=Pieces((1, 3), (40.3, 20.1, 5.7)),
    tokens=Pieces((16,), (3.3, 7.1)),
    chunk_ns=11.1,
    context_ns=0.37,
    pair_ns=0.013,
    row_ns=9.9,
    block_ns=2.6,
)

costs = st.floats(0, 1e6)
pieces = st.sets(st.integers(1, 500), max_size=4).flatmap(
    lambda knees: st.tuples(*[costs] * (len(knees) + 1)).map(
        lambda slopes: Pieces(tuple(sorted(knees)), slopes)
    )
)
text = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12)


@given(
    contexts=st.lists(st.integers(0, 500), min_size=1, max_size=6),
    tokens=st.integers(2, 50),
    repeats=st.integers(1, 6),
    layers=st.sampled_from([None, (0, 2), (1, 4), (3, 4)]),
)
def test_leaps_equal_single_steps(
    contexts: list[int], tokens: int, repeats: int, layers: tuple[int, int] | None
) -> None:
    works = [decode(c) for c in contexts]
    works.append(chunk(tokens, contexts[0])._replace(layers=layers))
    for timing in (PROFILE, Scattered(PROFILE, [0.8, 1.0, 1.6], scale=1.1, seed=3)):
        leap = timing.durations_ns(step(*works, repeats=repeats), repeats)
        assert leap == [timing.durations_ns(step(*grown(works, j)), 1)[0] for j in range(repeats)]


@given(
    contexts=st.lists(st.integers(0, 5000), max_size=40),
    more=st.integers(0, 5000),
    tokens=st.integers(2, 600),
)
def test_more_work_never_takes_less_time(contexts: list[int], more: int, tokens: int) -> None:
    works = [decode(c) for c in contexts] + [chunk(tokens, more)]
    before = PROFILE.durations_ns(step(*works), 1)[0]
    for larger in (
        [*works, decode(more)],
        [*works[:-1], chunk(tokens + 1, more)],
        [*works[:-1], chunk(tokens, more + 1)],
    ):
        assert PROFILE.durations_ns(step(*larger), 1)[0] >= before


def test_decodes_cost_what_the_pieces_say_and_a_chunk_alone_is_a_step_of_one() -> None:
    flat = replace(PROFILE, context_ns=0.0, row_ns=0.0)
    times = [flat.durations_ns(step(*[decode(9)] * n), 1)[0] for n in (1, 2, 3, 10)]
    fixed = 1234.5 + 77.7
    sums = (40.3, 40.3 + 20.1, 40.3 + 2 * 20.1, 40.3 + 2 * 20.1 + 7 * 5.7)
    assert times == [int(fixed + more + 0.5) for more in sums]
    assert (
        PROFILE.chunk_time_ns(30, 12) == PROFILE.durations_ns(step(chunk(30, 12, ends=True)), 1)[0]
    )
    assert PROFILE.transfer_ns(Transfer(1, SWAP_IN, prompt(1, 2), 10)) == 26


def test_half_of_the_layers_cost_half_of_what_layers_cost() -> None:
    plain = replace(PROFILE, gap_ns=0.0, row_ns=0.0, base_ns=1e6)
    whole = plain.durations_ns(step(chunk(40, 100)), 1)[0]
    half = plain.durations_ns(step(chunk(40, 100)._replace(layers=(1, 3))), 1)[0]
    assert abs(2 * half - whole) <= 1


@given(base=costs, decodes=pieces, tokens=pieces, model=text, source=text, ratio=st.floats(0.1, 9))
def test_a_profile_survives_its_file(
    tmp_path_factory: pytest.TempPathFactory,
    base: float,
    decodes: Pieces,
    tokens: Pieces,
    model: str,
    source: str,
    ratio: float,
) -> None:
    path = tmp_path_factory.mktemp("profile") / "p.toml"
    fit = {"all": KindFit(3, ratio, 0.5, -0.25), "decode": KindFit(1, 0.0, 1e-9, 0.0)}
    profile = replace(
        PROFILE, base_ns=base, decodes=decodes, tokens=tokens, model=model, source=source,
        residuals=(ratio, 2.0), fit=fit, coarse=True,
    )  # fmt: skip
    save_profile(profile, path)
    assert load_profile(path) == profile


def test_files_that_are_no_profile_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    good = profile_text(PROFILE)
    for text, match in (
        ("nonsense", "cannot read"),
        (good.replace("version = 1", "version = 2"), "version 1"),
        (good.replace("base_ns = 1234.5", "base_ns = -1"), "at least 0"),
        (good.replace("knees = [1, 3]", "knees = [3, 1]"), "ascending"),
        (good.replace("knees = [1, 3]", "knees = [1]"), "slopes"),
        (good.replace("coarse =", "course ="), "unknown keys course"),
    ):
        path.write_text(text)
        with pytest.raises(OptionError, match=match):
            load_profile(path)
    with pytest.raises(OptionError, match="cannot read"):
        load_profile(tmp_path / "absent.toml")
    with pytest.raises(OptionError, match="cannot write"):
        save_profile(PROFILE, tmp_path / "absent" / "p.toml")


def test_rescaling_multiplies_by_the_ratio_of_two_models() -> None:
    slow, fast = Affine(100, token_ns=30), Affine(50, token_ns=15, block_ns=7)
    scaled = Rescaled(Affine(1000, token_ns=10), slow, fast)
    assert scaled.durations_ns(step(decode(5), chunk(9, 0)), 2) == [550, 550]
    assert scaled.chunk_time_ns(10, 0) == 550
    assert scaled.transfer_ns(Transfer(1, SWAP_IN, prompt(1, 2), 3)) == 21


def test_scatter_has_the_distribution_it_was_given_and_depends_on_nothing_but_position() -> None:
    timing = Scattered(Affine(1_000_000), [0.5, 1.0, 2.5], seed=1)
    heard = [timing.durations_ns(step(decode(n)), 1)[0] for n in range(4000)]
    assert min(heard) >= 500_000 and max(heard) <= 2_500_000
    mean = sum(heard) / len(heard)  # of a density that is flat between two quantiles: 0.75 and 1.75
    assert abs(mean / 1_000_000 - 1.25) < 0.03
    assert heard == [timing.durations_ns(step(decode(n)), 1)[0] for n in range(4000)]
    other = Scattered(Affine(1_000_000), [0.5, 1.0, 2.5], seed=2)
    assert heard[:50] != [other.durations_ns(step(decode(n)), 1)[0] for n in range(50)]
    with pytest.raises(OptionError, match="above 0"):
        Scattered(Affine(1), [0.0])
