"""Diffusion models: steps that compute tokens again, batched by what they compute."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headway.api import Scenario
from headway.api.runner import run
from headway.api.scenario import Parts
from headway.core import Request, Sequence, Stage
from headway.policies.batching.dllm_serve import DllmServe
from headway.testing import Setup, run_sim, small_workload
from headway.testing.small_workload import SmallWorkload
from headway.timing import Roofline, load_device, load_model
from headway.workload import Listed, Offered
from headway.workload.diffusion import Diffusion

SPAN = Stage(denoise_tokens=8, denoise_steps=4, refresh_steps=2)


def _asked(id_: int, prompt: int = 100, answer: int = 20, arrival_ns: int = 0) -> Offered:
    return Offered(Request(id_, arrival_ns, prompt, answer, stages=(SPAN,)), answer)


def _denoised(seed: int, count: int) -> SmallWorkload:
    """Small requests with aborts; every third is not a diffusion model's."""
    plain = small_workload(seed, count, 12.0, abort_share=0.2)
    mixed: list[Offered] = []
    for offer in plain.requests:
        (changed,) = Diffusion(Listed([offer]), 8, 4, 2).offers()
        mixed.append(changed if offer.request.id % 3 else offer)
    return replace(plain, requests=tuple(mixed))


def test_an_answer_comes_in_spans_and_is_computed_anew() -> None:
    done = run_sim(SmallWorkload((_asked(0),)), Setup("dllm_serve"))
    done.conserved()
    refresh, reuse = [120, 120], [8, 8]
    assert [step.tokens for step in done.log.steps] == [*(refresh + reuse) * 2, *refresh, 4, 4]
    times = done.log.times_ns[0]
    assert len(times) == 20
    assert len(set(times)) == 3


def test_an_answer_that_ends_early_ends_with_its_span() -> None:
    request = _asked(0).request
    done = run_sim(SmallWorkload((Offered(request, 11),)), Setup("dllm_serve"))
    done.conserved()
    assert len(done.log.steps) == 8


@pytest.mark.parametrize("batching", ["dllm_serve", "dllm_static"])
@pytest.mark.parametrize("memory", ["recompute", "swap"])
def test_mixed_with_ordinary_requests_all_is_conserved(batching: str, memory: str) -> None:
    for blocks in (20_000, 90):
        workload = _denoised(3, 30)
        done = run_sim(workload, Setup(batching, memory=memory, blocks=blocks))
        done.conserved()
        stepped = run_sim(workload, Setup(batching, memory=memory, blocks=blocks, leap=False))
        assert done.log.tokens == stepped.log.tokens


def test_light_steps_go_on_while_a_heavy_one_is_put_off() -> None:
    """With one Refresh a step, four that start together drift apart: the same work in even steps."""
    offers = SmallWorkload(tuple(_asked(n) for n in range(4)))

    def sizes(**options: int) -> list[int]:
        policy = DllmServe(max_num_batched_tokens=1000, **options)
        return [step.tokens for step in run_sim(offers, Setup(lambda: policy)).log.steps]

    together, apart = sizes(refresh_tokens=0), sizes(refresh_tokens=120)
    assert max(together) == 480
    assert max(apart) <= 120 + 3 * 8
    assert 120 + 8 in apart
    assert sum(apart) == sum(together)


def test_who_is_put_off_holds_up_nobody_behind() -> None:
    """Three of different pace: while the first refreshes and the second waits to, the third goes on."""
    stages = [Stage(denoise_tokens=4, denoise_steps=k, refresh_steps=2) for k in (3, 8, 20)]
    offers = [Offered(Request(n, 0, 100, 20, stages=(s,)), 20) for n, s in enumerate(stages)]
    policy = DllmServe(max_num_batched_tokens=1000, refresh_tokens=120)
    steps = run_sim(SmallWorkload(tuple(offers)), Setup(lambda: policy)).log.steps
    assert [step.tokens for step in steps[11:15]] == [128, 124, 124, 128]


def test_a_step_is_packed_by_tokens_and_nobody_is_skipped() -> None:
    offers = SmallWorkload((_asked(0, 100), _asked(1, 200), _asked(2, 8)))
    policy = DllmServe(max_num_batched_tokens=256, refresh_tokens=0)
    steps = run_sim(offers, Setup(lambda: policy)).log.steps
    assert [step.tokens for step in steps[:3]] == [120, 120, 8 + 220 + 28]


def test_policies_and_worlds_that_know_no_denoising_refuse() -> None:
    done = run_sim(SmallWorkload((_asked(0),)), Setup("sarathi"))
    assert "plans no denoising steps" in done.log.ends[0]
    shared = Request(0, 0, 100, 20, stages=(SPAN,), prefix=((1, 64),))
    done = run_sim(SmallWorkload((Offered(shared, 20),)), Setup("dllm_serve"))
    assert "shares no prefix" in done.log.ends[0]


def test_logits_at_once_cost_kv() -> None:
    def kv_tokens(**options: int) -> int:
        scenario = Scenario(
            model="llada-8b",
            gpu="rtx-4090",
            batching="dllm_serve",
            options={f"batching.{name}": value for name, value in options.items()},
        )
        result = run(scenario, Parts(workload=Listed([_asked(0)])))
        return int(result.config["kv_tokens"])

    budgeted, monolithic = kv_tokens(), kv_tokens(logit_rows=2048)
    freed = (2048 - 1024) * 126_464 * 14 / load_model("llada-8b").kv_bytes_per_token()
    assert budgeted - monolithic == pytest.approx(freed, abs=32)


def test_a_refresh_takes_both_ways_and_all_logits() -> None:
    """Against the causal step of the same tokens: nearly twice the pairs, and logits for the whole answer."""
    model, device = load_model("llada-8b"), load_device("rtx-4090")
    timing = Roofline(model, device)
    offer = Offered(Request(0, 0, 512, 512, stages=(SPAN,)), 512)
    steps = run_sim(SmallWorkload((offer,)), Setup("dllm_serve", timing=timing)).log.steps
    ends_ns = [step.ends_ns[0] for step in steps]
    slower_ns = ends_ns[0] - timing.chunk_time_ns(1024)
    pairs = 1024 * 1023 // 2 * model.layers * 4 * model.hidden
    flops = pairs + 2 * 512 * model.head_parameters
    more_ns = flops / (device.peak("bf16") * device.compute_efficiency) * 1e9
    head_ns = model.head_bytes / (device.memory_bytes_per_s * device.memory_efficiency) * 1e9
    assert slower_ns == pytest.approx(more_ns - head_ns, rel=0.01)
    assert ends_ns[3] - ends_ns[2] < ends_ns[0] / 4  # a Reuse


def test_a_sequence_without_its_kv_refreshes() -> None:
    sequence = Sequence(_asked(0).request)
    sequence.computed_tokens, sequence.denoised = sequence.total_tokens, 3
    assert sequence.denoise_tokens == 8
    sequence.computed_tokens = 0  # preempted
    assert sequence.denoise_tokens == 120


def test_alone_it_gains_nothing() -> None:
    def ends(batching: str) -> dict[int, int]:
        gap_ns = 10_000_000_000
        offers = SmallWorkload(tuple(_asked(n, arrival_ns=n * gap_ns) for n in range(5)))
        return run_sim(offers, Setup(batching)).log.ends_ns

    assert ends("dllm_serve") == ends("dllm_static")


def test_ordinary_requests_are_batched_as_by_sarathi() -> None:
    workload = small_workload(2, 30, 10.0)
    ours = run_sim(workload, Setup(lambda: DllmServe(512, 256)))
    assert ours.log.tokens == run_sim(workload, Setup("sarathi")).log.tokens
