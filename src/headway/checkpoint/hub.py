"""Models from the Hugging Face hub: one commit, safe formats only, into the library's own cache.

`HF_HOME`, `HF_TOKEN`, `HF_ENDPOINT` and `HF_HUB_OFFLINE` mean what they mean there. Pickles (`.bin`, `.pt`)
and code (`.py`) are never fetched.
"""

from __future__ import annotations

import re
from pathlib import Path

from headway.checkpoint.gguf_choice import choose_gguf
from headway.checkpoint.located import Licence, Located
from headway.errors import HeadwayError, MissingExtraError, ModelFileError

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(:[\w.-]+)?")
_BESIDE = ("*.json", "*.jinja", "*.model")  # configuration, tokenizer, templates; no folders
_ELSEWHERE = ("*/*",)
TIMEOUT_S = 10.0


def is_hub_name(name: str) -> bool:
    """Whether this could be `org/repo` or `org/repo:QUANTISATION`."""
    return _ID.fullmatch(name) is not None


def from_hub(name: str, revision: str | None = None) -> Located:
    """Download a model, or find it in the cache; progress goes to stderr.

    The hub's library takes a third of a second to import, so only this function does.

    Raises:
        ModelFileError: no such model, no access, no network, or no safe weights in it.
        UnknownNameError: several GGUF files, and none or no single one was named.
        MissingExtraError: the library is not installed.
    """
    try:
        import huggingface_hub as library
        from huggingface_hub import constants
    except ModuleNotFoundError as error:
        raise MissingExtraError.of("a model from the hub", "huggingface-hub", "server") from error
    repo, _, quantisation = name.partition(":")
    if constants.HF_HUB_OFFLINE:
        return _cached(repo, quantisation, revision)
    try:
        info = library.HfApi().model_info(repo, revision=revision, timeout=TIMEOUT_S)
        files = [entry.rfilename for entry in info.siblings or ()]
        patterns, ignored, file = _wanted(repo, files, quantisation)
        folder = library.snapshot_download(
            repo, revision=revision, allow_patterns=patterns, ignore_patterns=ignored
        )
    except HeadwayError:
        raise
    except Exception as error:
        if told := _answer(error, repo, revision):
            raise told from error
        return _cached(repo, quantisation, revision, error)
    tagged = [tag.removeprefix("license:") for tag in info.tags or () if tag.startswith("license:")]
    licence = Licence(tagged[0], f"{constants.ENDPOINT}/{repo}") if tagged else None
    path = Path(folder)  # named after the one commit that all its files are from
    return Located(name, (path / file if file else path,), path.name, licence)


def _answer(error: Exception, repo: str, revision: str | None) -> ModelFileError | None:
    """Say what the hub answered; None if it did not, and an earlier download may do."""
    from huggingface_hub import errors

    if isinstance(error, errors.RevisionNotFoundError):
        return ModelFileError(
            f"{repo} has no revision {revision!r}: give a branch, a tag or a commit of it"
        )
    if isinstance(error, errors.RepositoryNotFoundError):  # gated ones too
        return ModelFileError(
            f"{repo} is not on the hub, or not for you: check the name, and HF_TOKEN if it is gated"
        )
    if isinstance(error, errors.HFValidationError):
        return ModelFileError(f"{repo!r} is no name of a hub model: give org/repo")
    return None


def _wanted(repo: str, files: list[str], quantisation: str) -> tuple[list[str], list[str], str]:
    """(patterns to fetch, patterns not to fetch, GGUF file or "")."""
    if not quantisation and any(
        file.endswith(".safetensors") and "/" not in file for file in files
    ):
        return ["*.safetensors", *_BESIDE], list(_ELSEWHERE), ""
    if any(file.lower().endswith(".gguf") for file in files):
        file = choose_gguf(files, quantisation, repo)
        return [file], [], file
    raise ModelFileError(
        f"{repo} has no .safetensors and no .gguf file: pickled weights can run code, convert it first"
    )


def _cached(
    repo: str, quantisation: str, revision: str | None, reason: Exception | None = None
) -> Located:
    """Take what was downloaded before."""
    import huggingface_hub as library

    def folder_with(patterns: list[str]) -> Path:
        return Path(
            library.snapshot_download(
                repo,
                revision=revision,
                allow_patterns=patterns,
                ignore_patterns=list(_ELSEWHERE),
                local_files_only=True,
            )
        )

    try:
        folder = folder_with([])  # whatever is there
        files = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
        patterns, _, file = _wanted(repo, files, quantisation)
        if not file:
            folder_with(patterns)  # raises if the download was cut short
    except (OSError, ValueError) as error:  # not there, not whole, no valid name
        why = "HF_HUB_OFFLINE is set" if reason is None else _short(reason)
        raise ModelFileError(
            f"{repo} is not in the cache, or not whole, and cannot be downloaded ({why}):"
            " check the network, or give a local directory or .gguf file"
        ) from error
    name = f"{repo}:{quantisation}" if quantisation else repo
    return Located(name, (folder / file if file else folder,), folder.name)


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"[
        :200
    ]
