from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings, strategies as st

from headway.engine.architecture import Rope
from headway.engine.architecture_json import MODEL_TYPES, config_from_json
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
    config = config_from_json(scaled, "x")
    assert (config.rope, config.sliding_rope) == (Rope(1e6, 8.0), Rope(1e4))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "mamba"}, r"'mamba': this engine computes LlamaForCausalLM, Mistral"),
        ({"model_type": None}, "type 'None'"),
        ({"architectures": ["Gemma3ForSequenceClassification"]}, "ForSequenceClassification"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 8.0}}, "'yarn': this engine computes"),
        ({"rope_scaling": ["yarn"]}, "give an object"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0.0}}, "rope factor=0.0"),
        ({"rope_scaling": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor=0.5"),
        ({"hidden_activation": "relu"}, "activation 'relu'"),
        ({"hidden_size": "640"}, "hidden_size=640: a whole number"),
        ({"hidden_size": True}, "hidden_size=True"),
        ({"hidden_size": 10**400}, "hidden_size=1000"),
        ({"num_attention_heads": 10**400}, "num_attention_heads=1000"),
        ({"num_hidden_layers": 10**12}, "1000000000000 layers"),
        ({"num_hidden_layers": None}, "lacks 'num_hidden_layers'"),
        ({"vocab_size": 10**12}, "vocabulary=1000000000000"),
        ({"num_key_value_heads": 3}, "4 heads of 256 over 3"),
        ({"head_dim": 255}, "even"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps=nan"),
        ({"rope_theta": 10**400}, "rope_theta=1000"),
        ({"layer_types": ["full_attention"] * 3}, "7 of sliding_attention or full_attention"),
        ({"final_logit_softcapping": -1.0}, "a cap must be above 0"),
    ],
)
def test_what_would_change_the_tokens_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelFileError, match=said) as caught:
        config_from_json(FLAT | change, "x")
    assert "\n" not in str(caught.value)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["llama", "linear", "llama3", "full_attention", 2**70, 10**400, 1e308]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["rope_type", "factor", "full_attention", "rope_theta", "x"]), inner
        )
    ),
    max_leaves=5,
)
KEYS = [
    *FLAT,
    *["architectures", "text_config", "layer_types", "rope_parameters", "rope_scaling"],
    *["hidden_activation", "sliding_window_pattern", "final_logit_softcapping", "attention_bias"],
    *["use_sliding_window", "max_window_layers", "tie_word_embeddings"],
]


@settings(max_examples=300)
@given(
    kind=st.sampled_from(sorted(MODEL_TYPES)),
    changes=st.dictionaries(st.sampled_from(KEYS), anything, max_size=3),
)
def test_a_config_that_is_nonsense_is_refused_in_one_sentence(
    kind: str, changes: dict[str, Any]
) -> None:
    try:
        config = config_from_json(FLAT | {"model_type": kind} | changes, "x")
    except ModelFileError as error:
        said = str(error)
    else:
        said = ""
        assert config.layers == len(config.sliding)
        hash(config)
    assert "\n" not in said
    assert len(said) < 400


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
