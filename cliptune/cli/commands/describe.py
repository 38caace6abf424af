"""`cliptune describe`: sentences about classes from a language model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from cliptune.cli.shared.output import say
from cliptune.reading import content_of, utf8


def describe(
    out: str,
    /,
    *,
    data: str | None = None,
    root: str | None = None,
    source: Literal["coop", "torchvision"] = "coop",
    classes: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    sets: str = "des,dist",
    task: str = "object",
    n: int = 25,
    question: str | None = None,
    url: str | None = None,
    model: str | None = None,
    temperature: float = 0.99,
    timeout: float = 60.0,
    attempts: int = 5,
) -> None:
    """Ask a language model to describe your classes, for attrvr, dvp_cse, dvp_cls, dvplite and rvp.

    The model stands behind any address that speaks OpenAI's chat completions, on this machine or elsewhere. Every
    answer is kept at once: the same command goes on where it stopped.

    Parameters
    ----------
    out
        Folder for the files, one JSON file per set.
    data
        Data whose classes are described: a name of `cliptune data list`, or a path as in `cliptune fit`.
    root
        Folder that holds the data sets.
    source
        Of --data, as in `cliptune train`: coop or torchvision.
    classes
        Instead of --data: the class names, separated by commas, or a text file with one per line.
    sets
        What to ask for, separated by commas: des (how a class looks), dist (what sets it apart), or causes in your own
        words, such as "shape,colour,texture".
    task
        What the classes are kinds of: pet, texture, aircraft …
    n
        Sentences per class and set.
    question
        Text file with your own question, holding {class} and, as you like, {article}, {task}, {cause} and {n}.
    url
        Address up to the version; CLIPTUNE_LLM_URL if left out. The key is read from CLIPTUNE_LLM_KEY alone.
    model
        Name of the model there; CLIPTUNE_LLM_MODEL if left out.
    temperature
        Of the answers; the higher, the more they differ.
    timeout
        Seconds to wait for one answer.
    attempts
        Tries of one question.
    """
    from cliptune.texts.describe import Asking, describe_classes
    from cliptune.texts.endpoint import Endpoint

    asking = Asking(task, n, "" if question is None else _read(question))
    endpoint = Endpoint.from_environment(url, model, temperature=temperature, timeout=timeout, attempts=attempts)
    names = _names(data, root, source, classes)
    describe_classes(endpoint, names, [part.strip() for part in sets.split(",") if part.strip()], out, asking, say=say)
    say(
        "",
        f"Written to {out}. Read the sentences before you trust them: models name things that no picture shows.",
        "Train with them:",
        f"  cliptune train --method dvp_cls --data … --set descriptions={out}",
    )


def _names(data: str | None, root: str | None, source: str, classes: str | None) -> list[str]:
    if (data is None) == (classes is None):
        raise ValueError("cliptune describe: give either --data or --classes, so that it is known what to ask about.")
    if data is not None:
        from cliptune.cli.shared.inputs import open_data
        from cliptune.data import DataSpec

        return list(open_data(DataSpec.found(data, root, source)).class_names)
    assert classes is not None
    file = Path(classes).expanduser()
    names = _read(classes).splitlines() if "," not in classes and file.is_file() else classes.split(",")
    found = [name.strip() for name in names if name.strip()]
    if not found:
        raise ValueError("cliptune describe: --classes holds no names. Write them separated by commas.")
    return found


def _read(path: str) -> str:
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"cliptune describe: there is no file {path}.")
    try:
        return utf8(content_of(file)).strip()
    except ValueError as error:
        raise ValueError(f"cliptune describe: {path} is no UTF-8 text ({error}). Save it as UTF-8.") from error
