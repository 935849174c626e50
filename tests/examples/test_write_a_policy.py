"""The tutorial's policy works where a reader puts it: in a copy outside the package, unedited, in both worlds."""

import ast
import importlib.util
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import headway
from headway.core import NS_PER_MS, Request
from headway.runtime import load_policy
from headway.runtime.loader import policy_class
from headway.testing import Run, Setup, SmallWorkload, StepTimes, check_batching, run_sim
from headway.workload import Offered

EXAMPLES = Path(__file__).parents[2] / "examples"
MODULE_IMPORTS = {"asyncio", "dataclasses", "headway.core", "importlib.util", "random", "sys"}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copy(EXAMPLES / "write_a_policy.py", tmp_path / "somewhere_else.py"))


def run(copy: Path, arrivals_and_prompts: list[tuple[int, int]], **options: int) -> Run:
    """Requests of (arrival in ms, prompt tokens), one output token each."""
    offers = [
        Offered(Request(n, at * NS_PER_MS, tokens, 1), 1)
        for n, (at, tokens) in enumerate(arrivals_and_prompts)
    ]
    setup = Setup(lambda: load_policy("batching", str(copy), options), timing=StepTimes())
    return run_sim(SmallWorkload(tuple(offers)), setup)


def first_tokens(run: Run) -> list[int]:
    """Request ids in the order of their first tokens."""
    return sorted(run.log.times_ns, key=lambda request: run.log.times_ns[request][0])


def test_it_is_the_only_example_of_a_policy_and_its_first_class() -> None:
    (file,) = EXAMPLES.glob("*polic*")
    first = next(
        item for item in ast.parse(file.read_text()).body if isinstance(item, ast.ClassDef)
    )
    assert policy_class("batching", str(file)).__name__ == first.name


def test_its_module_imports_the_vocabulary_and_the_standard_library_only(copy: Path) -> None:
    imported = {
        name
        for item in ast.parse(copy.read_text()).body
        for name in (
            [item.module or ""] if isinstance(item, ast.ImportFrom)
            else [alias.name for alias in item.names] if isinstance(item, ast.Import)
            else []
        )
    }  # fmt: skip
    assert imported <= MODULE_IMPORTS


def test_short_prompts_overtake_a_long_one(copy: Path) -> None:
    small = {"token_budget": 64, "guarded_tokens": 64}
    assert first_tokens(run(copy, [(0, 640), (1, 32), (2, 32)], **small)) == [1, 2, 0]


def test_nobody_overtakes_a_prompt_that_came_earlier_by_more_than_its_handicap(copy: Path) -> None:
    small = {"token_budget": 64, "guarded_tokens": 64, "token_us": 10}  # 6.4 ms for 640 tokens
    assert first_tokens(run(copy, [(0, 640), (5, 32), (50, 32)], **small)) == [1, 0, 2]


@pytest.mark.slow
def test_it_keeps_the_promises_of_every_batching_policy(copy: Path) -> None:
    check_batching(str(copy), seeds=range(1), live=False)
    check_batching(str(copy), memory="swap", seeds=range(1), live=False)


def test_the_simulator_runs_a_copy_by_its_path(copy: Path) -> None:
    result = headway.simulate(batching=str(copy), requests=20)
    assert (result.config["batching"], result.summary["completed"]) == ("somewhere_else", 20)


@pytest.fixture(scope="session")
def tiny_gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    config = transformers.Gemma3TextConfig(
        vocab_size=512,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        query_pre_attn_scalar=16,
        sliding_window=16,
        eos_token_id=None,
    )
    folder = tmp_path_factory.mktemp("tiny-gemma")
    transformers.Gemma3ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_a_copy_runs_unedited_in_the_simulator_and_on_a_real_model(
    copy: Path, tiny_gemma: Path
) -> None:
    done = subprocess.run(
        [sys.executable, copy.name, str(tiny_gemma)],
        cwd=copy.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    by_world = {line[:26].strip(): line[30:].split() for line in done.stdout.splitlines()}
    for world in ("ShortestPrefill, simulated", "ShortestPrefill, real mode"):
        times = [float(text) for text in by_world[world]]
        assert len(times) == 8 and min(times) >= 0


@pytest.mark.slow
def test_without_a_model_it_says_what_to_install(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", [str(copy)])
    runpy.run_path(str(copy), run_name="__main__")
    assert "pip install 'headway[demo]'" in capsys.readouterr().out
