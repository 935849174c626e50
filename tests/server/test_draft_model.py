"""A draft model is found, counted and refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")
pytest.importorskip("jinja2")
pytest.importorskip("torch")
pytest.importorskip("tokenizers")

import tokenizers

from headway.checkpoint.model_facts import facts_from_directory
from headway.errors import DoesNotFitError, OptionError
from headway.host.spec import SIM
from headway.server.memory import LEAST_KV_TOKENS, Need, kv_tokens_that_fit
from headway.server.plan_service import plan_service
from headway.server.serve_options import ServeOptions
from headway.testing.tiny_files import TinyShape, save_tiny_gemma

if TYPE_CHECKING:
    from headway.server.lifecycle import ServicePlan

BLOCKS, BLOCK = 64, 16
SMALL = TinyShape(num_hidden_layers=4, hidden_size=32)


def save_model(folder: Path, shape: TinyShape | None = None, *, words: str = "abcd") -> Path:
    """A tiny model, and a tokenizer whose words are the pairs of some letters."""
    save_tiny_gemma(folder, shape)
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    merges = [(a, b) for a in words for b in letters[:40]]
    vocabulary = {text: n for n, text in enumerate([*letters, *(a + b for a, b in merges)])}
    library = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, merges))
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = tokenizers.decoders.ByteLevel()
    library.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> ServeOptions:
    """What drafts for itself."""
    folder = str(save_model(tmp_path_factory.mktemp("model")))
    return ServeOptions(
        model=folder, draft_model=folder, speculation="fixed", kv_blocks=BLOCKS, dtype="float32"
    )


@pytest.fixture
def plan(served: ServeOptions) -> Iterator[ServicePlan]:
    made = plan_service(served)
    yield made
    made.checkpoint.close()


def test_hosts_and_people_are_told_of_it(served: ServeOptions, plan: ServicePlan) -> None:
    assert [spec.draft_model for spec in plan.specs] == [served.draft_model]
    assert any(line.startswith("draft model: ") for line in plan.facts)


def test_without_one_nobody_hears_of_it(served: ServeOptions) -> None:
    made = plan_service(replace(served, draft_model=None))
    made.checkpoint.close()
    assert [spec.draft_model for spec in made.specs] == [""]
    assert not any("draft" in line for line in made.facts)


def test_its_weights_and_its_kv_are_counted(served: ServeOptions, tmp_path: Path) -> None:
    draft = save_model(tmp_path, SMALL)
    every = [facts_from_directory(Path(path)) for path in (served.model, draft)]
    need = Need(
        sum(4 * facts.parameters for facts in every),
        sum(facts.kv_bytes_per_token(4) for facts in every),
    )
    options = replace(served, draft_model=str(draft), kv_blocks=None, kv_bytes=1 << 20)
    made = plan_service(options)
    made.checkpoint.close()
    assert made.model.blocks == (1 << 20) // need.kv_bytes_per_token // BLOCK
    with pytest.raises(DoesNotFitError, match=r"weights of both models.*no --draft-model"):
        plan_service(replace(options, kv_bytes=1 << 60))


def test_what_fits_alone_may_not_fit_with_a_drafter() -> None:
    gib = 1 << 30
    alone, both = Need(4 * gib, 1 << 16), Need(7 * gib, 1 << 17, drafts=True)
    for fixed in (True, False):
        assert kv_tokens_that_fit(alone, LEAST_KV_TOKENS, fixed=fixed, available=6 * gib)
        with pytest.raises(DoesNotFitError, match="of both models"):
            kv_tokens_that_fit(both, LEAST_KV_TOKENS, fixed=fixed, available=6 * gib)


def test_nothing_would_be_drafted(served: ServeOptions) -> None:
    with pytest.raises(OptionError, match="give fixed or smartspec"):
        plan_service(replace(served, speculation="none"))


def test_another_number_of_tokens_is_refused(served: ServeOptions, tmp_path: Path) -> None:
    other = save_model(tmp_path, TinyShape(vocab_size=500))
    with pytest.raises(OptionError, match="it has 500 tokens and not 512: choose one"):
        plan_service(replace(served, draft_model=str(other)))


def test_other_words_of_the_same_number_are_refused(served: ServeOptions, tmp_path: Path) -> None:
    other = save_model(tmp_path, words="wxyz")
    with pytest.raises(OptionError, match=r"token \d+ is 'w.*' there and 'a.*' here"):
        plan_service(replace(served, draft_model=str(other)))


def test_in_the_simulated_world_it_takes_kv_and_has_no_price_in_a_profile() -> None:
    options = ServeOptions(world=SIM, model="llama-3.1-8b", speculation="fixed")
    drafted = replace(options, draft_model="llama-3.2-1b")
    blocks = []
    for one in (options, drafted):
        made = plan_service(one)
        made.checkpoint.close()
        blocks.append(made.model.blocks)
    assert blocks[1] < blocks[0]
    with pytest.raises(OptionError, match="no price beside the measured times"):
        plan_service(replace(drafted, profile="any.toml"))
    with pytest.raises(DoesNotFitError, match="leave no KV block beside"):
        plan_service(replace(drafted, draft_model="llama-2-70b"))
