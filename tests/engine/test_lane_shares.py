"""Two lanes of one engine with shares: layers follow them, texts do not, and nobody waits for ever."""

from __future__ import annotations

import queue
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from headway.core import Request
from headway.core.plan import DONE, FAILED, INTERRUPTED, LAYER, Step, StepResult, Work
from headway.core.sequence import Sequence

torch = pytest.importorskip("torch")
from headway.engine.decoder import Decoder  # noqa: E402 - needs torch
from headway.engine.executor import TorchExecutor  # noqa: E402 - needs torch
from headway.engine.time_slices import TimeSlicer  # noqa: E402
from headway.testing.tiny_model import tiny_model  # noqa: E402 - needs torch

DEPTH = 5  # times the tiny model's layers
BLOCK, TOKENS = 16, 5
NAMES = ("one", "two")


class Posted:
    """A clock that runs what was posted when asked to."""

    def __init__(self) -> None:
        self._posted: queue.Queue[Callable[[], None]] = queue.Queue()
        self.post = self._posted.put

    def now_ns(self) -> int:
        return 0

    def call_at(self, time_ns: int, fn: Callable[[], None], rank: int = 0, key: int = 0) -> Any:
        raise NotImplementedError

    def passed(self, rank: int, key: int) -> bool:
        return True

    def run_one(self) -> None:
        self._posted.get(timeout=60)()


class Counting(Decoder):
    """Notes who computes each layer: sequences are told apart by the length of their first chunk."""

    order: list[str]
    fails_at: int

    def layer(self, index: int, hidden: Any, *rest: Any) -> Any:
        self.order.append(NAMES[hidden.shape[0] - TOKENS])
        if len(self.order) == self.fails_at:
            raise RuntimeError("no numbers today")
        return super().layer(index, hidden, *rest)


def deep() -> Counting:
    model = Counting.__new__(Counting)
    model.__dict__.update(tiny_model().__dict__)
    config = model.config
    model.config = replace(config, sliding=config.sliding * DEPTH)
    model._layers = model._layers * DEPTH
    model.order, model.fails_at = [], -1
    return model


class Lanes:
    """An executor whose device is held until both lanes want it; time is layers computed."""

    def __init__(self) -> None:
        self.model, self.clock = deep(), Posted()
        self.executor = TorchExecutor(self.clock, self.model, blocks=16, threads=1)
        self.executor._slicer = TimeSlicer(lambda: 1000 * len(self.model.order))
        self.sequences = [
            Sequence(Request(n, 0, TOKENS + n, 4, prompt_ids=tuple(range(30 + n, 35 + 2 * n))))
            for n in range(len(NAMES))
        ]
        for n, sequence in enumerate(self.sequences):
            sequence.blocks = [2 * n, 2 * n + 1]
        self.results: dict[str, StepResult] = {}

    def start(self, lane: str, share: int | None) -> Any:
        sequence = self.sequences[NAMES.index(lane)]
        step = Step(0, lane, (Work(sequence, sequence.remaining_tokens),), share=share)
        return self.executor.execute(step, lambda result: self.results.update({lane: result}))

    def both(self, *shares: int) -> list[Any]:
        """Start both; they begin together."""
        slicer = self.executor._slicer
        with slicer.step("gate"):
            handles = []
            for n, (lane, share) in enumerate(zip(NAMES, shares, strict=True)):
                handles.append(self.start(lane, share))
                while len(slicer._waiting) <= n:
                    pass
        return handles

    def land(self, count: int = 2) -> None:
        while len(self.results) < count:
            self.clock.run_one()

    def ids(self, lane: str) -> tuple[int, ...]:
        return tuple(self.results[lane].done[0].ids)


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    made = Lanes()
    yield made
    made.executor.close()  # must not hang


def alone(lane: str) -> tuple[int, ...]:
    one = Lanes()
    one.start(lane, None)
    one.land(1)
    one.executor.close()
    return one.ids(lane)


@pytest.mark.parametrize(
    ("shares", "behind"), [((800, 200), 10), ((200, 800), 10), ((500, 500), 40), ((1000, 250), 10)]
)
def test_layers_follow_shares_and_texts_do_not(
    lanes: Lanes, shares: tuple[int, int], behind: int
) -> None:
    lanes.both(*shares)
    lanes.land()
    order, depth = lanes.model.order, lanes.executor.layers
    assert Counter(order) == dict.fromkeys(NAMES, depth)
    fast, slow = NAMES if shares[0] >= shares[1] else NAMES[::-1]
    ended = max(n for n, lane in enumerate(order) if lane == fast)
    assert abs(order[:ended].count(slow) - behind) <= 2
    for lane in NAMES:
        assert lanes.results[lane].status == DONE
        assert lanes.ids(lane) == alone(lane)


def test_a_lane_alone_does_not_wait_whatever_its_share(lanes: Lanes) -> None:
    lanes.start("one", 1)
    lanes.land(1)
    assert lanes.model.order == ["one"] * lanes.executor.layers
    assert not lanes.executor._slicer._waiting


def test_lanes_without_shares_take_no_turns(lanes: Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object) -> None:
        raise AssertionError(args)

    monkeypatch.setattr(TimeSlicer, "step", never)
    for lane in NAMES:
        lanes.start(lane, None)
    lanes.land()
    assert all(result.status == DONE for result in lanes.results.values())
    assert all(lanes.ids(lane) == alone(lane) for lane in NAMES)


def test_an_interrupt_frees_the_device_for_the_other(lanes: Lanes) -> None:
    handles = lanes.both(1, 999)
    handles[0].interrupt(LAYER)
    lanes.land()
    assert lanes.results["two"].status == DONE
    assert lanes.ids("two") == alone("two")
    one = lanes.results["one"]
    assert one.status in (DONE, INTERRUPTED)
    assert lanes.model.order.count("one") == one.done[0].layers


def test_a_lane_that_fails_frees_the_device(lanes: Lanes) -> None:
    lanes.model.fails_at = 7
    lanes.both(500, 500)
    lanes.land()  # a second try of the works of the step that failed succeeds
    assert all(lanes.ids(lane) == alone(lane) for lane in NAMES)
    lanes.results.clear()
    lanes.executor._compute._model = None  # type: ignore[assignment]
    lanes.both(500, 500)
    lanes.land()
    assert all(result.status == FAILED for result in lanes.results.values())
    assert lanes.executor._slicer._holder is None


def test_close_waits_for_what_is_queued() -> None:
    lanes = Lanes()
    lanes.both(10, 990)
    lanes.executor.close()
    lanes.land()
    assert all(result.status == DONE for result in lanes.results.values())
