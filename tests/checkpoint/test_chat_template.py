from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.checkpoint.conftest import save_directory, save_gguf
from transformers.utils.chat_template_utils import render_jinja_template

from headway.checkpoint.chat_template import (
    PLAIN,
    ChatTemplate,
    TemplateSource,
    template_from_directory,
    template_from_file,
    template_from_gguf,
)
from headway.checkpoint.gguf_file import GgufFile
from headway.checkpoint.template_process import TemplateProcess
from headway.errors import ModelFileError, OptionError

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
# Each family's way to write a conversation, with the Jinja its published templates use.
LLAMA_3 = """{{- bos_token }}
{%- if not date_string is defined %}{% set date_string = strftime_now("%d %b %Y") %}{% endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {%- for t in tools %}{{- t | tojson(indent=4) }}{{- "\\n\\n" }}{%- endfor %}
{%- endif %}
{{- system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'
        + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""
QWEN_3 = """{%- if tools %}
    {{- '<|im_start|>system\\n# Tools\\n' }}
    {%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}{%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last=messages|length - 1, multi=true) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi and message.role == "user" %}{%- set ns.multi = false %}{%- set ns.last = index %}{%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}{%- set content = '' %}{%- endif %}
    {%- if message.role == "assistant" and '</think>' in content %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + content }}
    {%- for call in message.tool_calls or [] %}
        {{- '\\n<tool_call>' ~ call.function.name ~ ' ' ~ (call.function.arguments | tojson) }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}"""
GEMMA = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first = messages[0]['content'] + '\\n\\n' -%}{%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first = "" -%}{%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate") }}
    {%- endif -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\\n' + (first if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}{{ item['text'] | trim }}{%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}"""
MISTRAL = """{{ bos_token }}{% for message in messages %}
{%- if message['role'] == 'user' %}
    {%- if loop.last and tools %}{{ '[AVAILABLE_TOOLS] ' }}{{ tools|tojson }}{{ '[/AVAILABLE_TOOLS]' }}{% endif %}
{{ '[INST] ' + message['content'] + ' [/INST]' }}
{%- elif message['role'] == 'assistant' %}
{% generation %}{{ ' ' + message['content']|trim + eos_token }}{% endgeneration %}
{%- else %}{% continue %}{% endif %}
{% endfor %}
"""
USER = {"role": "user", "content": "  Hi <b>you</b> & 'me' é\n"}
CHAT = [USER, {"role": "assistant", "content": "<think>hm</think>\n Yes."}, USER]
SYSTEM = {"role": "system", "content": " Be brief. "}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"é": [1, 2.5, None, True]}}}]
CALLED = [
    USER,
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"function": {"name": "f", "arguments": {"a": "<x>"}}}],
    },
]


@pytest.mark.parametrize(
    ("template", "chats"),
    [
        (LLAMA_3, [[USER], CHAT, [SYSTEM, *CHAT]]),
        (QWEN_3, [[USER], CHAT, [SYSTEM, *CHAT], CALLED]),
        (GEMMA, [[USER], CHAT, [SYSTEM, *CHAT]]),
        (MISTRAL, [[USER], CHAT, [SYSTEM, *CHAT]]),
        (PLAIN, [[USER], CHAT, [SYSTEM, *CHAT]]),
    ],
    ids=["llama-3", "qwen-3", "gemma", "mistral", "plain"],
)
def test_templates_render_as_in_transformers(template: str, chats: list[list[Any]]) -> None:
    with ChatTemplate(TemplateSource(template, "test", SPECIAL)) as ours:
        for chat in chats:
            for tools in (None, TOOLS):
                for prompt in (False, True):
                    for extra in ({}, {"enable_thinking": False}):
                        theirs, _ = render_jinja_template(
                            [chat],
                            tools=tools,
                            chat_template=template,
                            add_generation_prompt=prompt,
                            **SPECIAL,
                            **extra,
                        )
                        assert (
                            ours.render(
                                chat, tools=tools, add_generation_prompt=prompt, variables=extra
                            )
                            == theirs[0]
                        )


ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('touch MARK').read() }}",
    "{{ (messages|attr('append'))(1) }}",
    "{{ messages.append(1) }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ self.__init__.__globals__['__builtins__']['open']('MARK', 'w') }}",
    "{{ '{0.__class__.__base__}'.format(messages) }}",
    "{{ raise_exception.__globals__ }}",
    "{% set n = namespace(_x=1) %}",
    "{% include 'MARK' %}",
    "{% import 'os' as os %}{{ os.system('touch MARK') }}",
    "{{ dict.__subclasses__() }}",
    "{{ strftime_now.__code__ }}",
    "{{ lipsum.__globals__ }}",
]


@pytest.mark.parametrize("template", ESCAPES)
def test_ways_out_of_the_sandbox_are_refused(template: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    source = TemplateSource(template.replace("MARK", str(mark)), "test")
    text = ""
    with ChatTemplate(source) as ours, contextlib.suppress(ModelFileError, OptionError):
        text = ours.render([USER])
    assert not text  # an attribute out of reach is undefined, and prints as nothing
    assert not mark.exists()


BOMBS = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{{ 'a' * 300000000 }}",
    "{% set n = 300000000 %}{{ 'a' * n }}",
    "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "{% set k = 99999999 %}{{ 9 ** k }}",
    "{{ 9 ** 99999999 }}",
    "{{ 'ab'.center(1000000000) }}",
    "{{ (range(100000) | list) * 3000 }}",
    "{% macro m(n) %}{{ m(n) }}{{ m(n) }}{% endmacro %}{{ m(1) }}",
]


@pytest.mark.parametrize("template", BOMBS)
def test_endless_templates_end_and_small_memory_suffices(template: str) -> None:
    with ChatTemplate(TemplateSource(template, "test")) as ours:
        for _ in range(2):
            with pytest.raises(ModelFileError, match=r"stopped after|cannot render"):
                ours.render([USER])
        assert peak_kilobytes(ours._process.pid) < 75_000  # of which Python and Jinja are 23 000


def peak_kilobytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("the system does not say")
    peaks = [line.split()[1] for line in status.read_text().splitlines() if "VmHWM" in line]
    return int(peaks[0]) if peaks else 0


def test_a_template_that_was_killed_once_goes_on_with_the_next_conversation() -> None:
    text = "{% for a in range(messages[0].n) %}{% for b in range(messages[0].n) %}{% endfor %}{% endfor %}ok"
    with ChatTemplate(TemplateSource(text, "test")) as ours:
        assert ours.render([{"n": 1}]) == "ok"
        with pytest.raises(ModelFileError, match="stopped after"):
            ours.render([{"n": 99_999}])
        assert ours.render([{"n": 1}]) == "ok"


def test_a_process_that_died_meanwhile_is_replaced() -> None:
    with ChatTemplate(TemplateSource("ok", "test")) as ours:
        assert ours.render([USER]) == "ok"
        ours._process._process.kill()
        assert ours.render([USER]) == "ok"


def test_output_has_a_limit() -> None:
    process = TemplateProcess("{{ 'x' * n }}", most_characters=1000)
    try:
        assert process.render({"n": 1000}) == "x" * 1000
        with pytest.raises(ModelFileError, match="more than 1000"):
            process.render({"n": 1001})
    finally:
        process.close()


def test_long_conversations_have_the_memory_they_need() -> None:
    long = [{"role": "user", "content": "日本語 😀 and plain " * 150_000}] * 2
    with ChatTemplate(TemplateSource(PLAIN, "test")) as ours:
        assert ours.render(long).count("日") == 300_000


def test_many_threads_take_turns() -> None:
    texts: dict[int, str] = {}
    with ChatTemplate(TemplateSource("{{ messages[0].n }}", "test")) as ours:

        def ask(number: int) -> None:
            texts[number] = ours.render([{"n": number}])

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert texts == {number: str(number) for number in range(20)}


def test_the_process_ends_with_its_owner() -> None:
    ours = ChatTemplate(TemplateSource("ok", "test"))
    process = ours._process._process
    ours.close()
    ours.close()
    assert process.poll() is not None
    with pytest.raises(ModelFileError, match="closed"):
        ours.render([USER])


@pytest.fixture(scope="module")
def echo() -> Iterator[ChatTemplate]:
    with ChatTemplate(TemplateSource("{{ messages[0].content }}{{ x }}", "test")) as ours:
        yield ours


def test_clients_set_variables_but_not_ours(echo: ChatTemplate) -> None:
    assert echo.render([{"content": "a"}], variables={"x": 1}) == "a1"
    for name in ("messages", "chat_template", "tokenize", "bos_token"):
        with pytest.raises(OptionError, match=name):
            echo.render([USER], variables={name: "x"})


def test_messages_that_are_not_json_are_the_client_s_fault(echo: ChatTemplate) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for content in ("\ud800", object(), deep):
        with pytest.raises(OptionError, match="not JSON"):
            echo.render([{"content": content}])


def test_what_the_template_says_of_a_conversation_reaches_the_client() -> None:
    with (
        ChatTemplate(TemplateSource(GEMMA, "test", SPECIAL)) as ours,
        pytest.raises(OptionError, match="roles must alternate"),
    ):
        ours.render([USER, USER])


def test_templates_are_found_where_models_keep_them(tmp_path: Path, llama: Any) -> None:
    folder = save_directory(tmp_path, llama, post=True)
    assert template_from_directory(folder).plain
    named = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "J"}))
    assert template_from_directory(folder).text == "J"
    save_directory(tmp_path, llama, post=True, chat_template=named)
    assert template_from_directory(folder).text == "D"
    save_directory(tmp_path, llama, post=True, chat_template="S")
    found = template_from_directory(folder)
    assert (found.text, found.plain, found.stop_strings) == ("S", False, ())
    assert found.special["bos_token"] == "<|begin_of_text|>"  # noqa: S105 - no password
    (folder / "chat_template.jinja").write_text("F")
    assert template_from_directory(folder).text == "F"
    with pytest.raises(ModelFileError, match="--chat-template"):
        template_from_file(tmp_path / "none", {})


def test_gguf_files_bring_templates_and_base_models_a_plain_one(tmp_path: Path, llama: Any) -> None:
    path = save_gguf(tmp_path / "a.gguf", llama, "llama-bpe", tokenizer__chat_template="G")
    found = template_from_gguf(GgufFile(path))
    assert (found.text, found.special["eos_token"]) == ("G", "<|end_of_text|>")
    plain = template_from_gguf(GgufFile(save_gguf(tmp_path / "b.gguf", llama, "llama-bpe")))
    assert plain.plain
    assert "\nUser:" in plain.stop_strings
