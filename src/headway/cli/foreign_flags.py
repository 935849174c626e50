"""Flags of other servers, and what means the same here."""

from collections.abc import Sequence

SAME = {
    # SGLang
    "--model-path": "MODEL, without a flag",
    "--context-length": "--max-model-len",
    "--mem-fraction-static": "--kv-memory, a size such as 2GiB",
    "--max-running-requests": "--max-num-seqs",
    "--max-queued-requests": "--max-num-queued-reqs",
    "--max-total-tokens": "--kv-blocks, in blocks of --block-size tokens",
    "--chunked-prefill-size": "--max-num-batched-tokens",
    "--schedule-policy": "--ordering",
    "--disable-radix-cache": "--no-enable-prefix-caching",
    "--dp-size": "--instances",
    "--page-size": "--block-size",
    "--random-seed": "--seed",
    "--speculative-draft-model-path": "--draft-model",
    "--speculative-num-draft-tokens": "--set fixed.tokens=N",
    # llama.cpp
    "-m": "MODEL, without a flag",
    "-c": "--max-model-len",
    "--ctx-size": "--max-model-len",
    "-np": "--max-num-seqs",
    "--parallel": "--max-num-seqs",
    "-t": "--threads",
    "-b": "--max-num-batched-tokens",
    "--batch-size": "--max-num-batched-tokens",
    "-ub": "--max-num-batched-tokens",
    "--ubatch-size": "--max-num-batched-tokens",
    "-md": "--draft-model",
    "--model-draft": "--draft-model",
    "--draft-max": "--set fixed.tokens=N",
    "-a": "--served-model-name",
    "--alias": "--served-model-name",
    "--chat-template-file": "--chat-template",
    # TGI
    "--model-id": "MODEL, without a flag",
    "--max-concurrent-requests": "--max-num-queued-reqs and --max-num-seqs",
    "--max-total-len": "--max-model-len",
    "--max-batch-prefill-tokens": "--max-num-batched-tokens",
    "--max-input-tokens": "--max-model-len",
    "--speculate": "--set fixed.tokens=N",
    # vLLM, where the meaning differs
    "--speculative-config": "--speculation, and --draft-model",
    "--speculative-model": "--draft-model",
    "--num-speculative-tokens": "--set fixed.tokens=N",
    "--gpu-memory-utilization": "--kv-memory, a size such as 2GiB",
    "--data-parallel-size": "--instances",
    "-dp": "--instances",
    "--scheduling-policy": "--ordering",
    "--enable-chunked-prefill": "--batching sarathi, which always does it",
    "--no-enable-chunked-prefill": "--batching prefill_first",
}


def hint(arguments: Sequence[str]) -> str:
    """What to write in the place of another server's flag among `arguments`; empty when there is none."""
    if arguments[:1] != ["serve"]:
        return ""
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag in SAME:
            return f"{flag} is called {SAME[flag]} here"
    return ""
