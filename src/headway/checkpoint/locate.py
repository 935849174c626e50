"""Find a model by what a person writes: a directory, a GGUF file, a name on the hub, or nothing."""

from __future__ import annotations

from pathlib import Path

from headway.checkpoint.embedded_model import embedded_model
from headway.checkpoint.gguf_choice import choose_gguf
from headway.checkpoint.hub import from_hub, is_hub_name
from headway.checkpoint.located import Located
from headway.errors import ModelFileError


def locate(model: str | None = None, *, revision: str | None = None) -> Located:
    """Return where the model is; None is the embedded one. Downloads if it must, so call it in a thread.

    `revision` pins every file of a hub model. A path that exists is never looked up on the hub.

    Raises:
        ModelFileError: there is no such model, or it cannot be had now.
        MissingExtraError: the embedded model is not installed.
        UnknownNameError: the name fits several GGUF files, or none.
    """
    if model is None:
        return embedded_model()
    path = Path(model).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        return Located(path.stem, (path,))
    if path.is_dir():
        return _in_directory(path)
    if is_hub_name(model) and path.suffix != ".gguf":
        return from_hub(model, revision)
    raise ModelFileError(
        f"{model} is no model: give a .gguf file, a Hugging Face directory, or a name such as org/repo"
    )


def _in_directory(folder: Path) -> Located:
    if (folder / "config.json").is_file():
        return Located(folder.resolve().name, (folder,))
    files = [path.name for path in folder.iterdir() if path.suffix == ".gguf"]
    if not files:
        raise ModelFileError(
            f"{folder} has neither config.json nor a .gguf file: give the directory of a model"
        )
    file = folder / choose_gguf(files, "", str(folder))
    return Located(file.stem, (file,))
