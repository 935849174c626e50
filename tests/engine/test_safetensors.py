from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from headway.engine.architecture import config_from_json
from headway.engine.load import load
from headway.errors import ModelFileError

if TYPE_CHECKING:
    from tests.engine.conftest import Case

FLAT = {  # as transformers 4 wrote it
    "model_type": "gemma3_text",
    "hidden_size": 640,
    "intermediate_size": 2048,
    "num_hidden_layers": 7,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "vocab_size": 262144,
    "max_position_embeddings": 32768,
    "sliding_window": 512,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0,
}


def test_both_styles_of_config_mean_the_same() -> None:
    nested: dict[str, Any] = {k: v for k, v in FLAT.items() if not k.startswith("rope")}
    nested["rope_parameters"] = {
        "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    }
    nested["layer_types"] = ["sliding_attention"] * 5 + ["full_attention", "sliding_attention"]
    config = config_from_json(nested, "x")
    assert config == config_from_json(FLAT, "x")
    assert config.sliding == (True,) * 5 + (False, True)
    assert config.kv_bytes_per_token == 7 * 2 * 256 * 4


def test_linear_position_scaling_of_global_layers_is_read() -> None:
    scaled = FLAT | {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    assert config_from_json(scaled, "x").global_factor == 8.0


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "llama"},
        {"final_logit_softcapping": 30.0},
        {"attention_bias": True},
        {"tie_word_embeddings": False},
        {"rope_scaling": {"rope_type": "yarn", "factor": 8.0}},
    ],
)
def test_what_would_change_the_tokens_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ModelFileError):
        config_from_json(FLAT | change, "x")


@pytest.mark.slow
def test_damaged_directories_say_what_is_wrong(tiny: Case, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no config\.json"):
        load(tmp_path)
    with pytest.raises(ModelFileError, match="is no model"):
        load(tmp_path / "nothing")
    model = tmp_path / "model"
    shutil.copytree(tiny.path, model)
    weights = next(model.glob("*.safetensors"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFileError, match="damaged or truncated"):
        load(model)
    weights.write_bytes(whole)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"intermediate_size": 100}))
    with pytest.raises(ModelFileError, match=r"config\.json implies"):
        load(model)
    weights.unlink()
    with pytest.raises(ModelFileError, match=r"no \.safetensors"):
        load(model)
