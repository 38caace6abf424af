"""Writing descriptions of classes with a language model: resumable, checked, in the format of the published files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cliptune.files import atomic_write_json
from cliptune.reading import content_of, json_value
from cliptune.texts.descriptions import DESCRIBING, DISTINGUISHING, MIN_LENGTH, read_descriptions
from cliptune.texts.endpoint import Endpoint

_ASK_FOR = "Write {n} different short sentences in English, one per line, without numbers and without any other text."
QUESTIONS = {
    DESCRIBING: "How does {article} {class}, a kind of {task}, look in a photograph? Name only what can be seen. "
    + _ASK_FOR,
    DISTINGUISHING: "What can be seen on {article} {class} that tells it apart from any other {task}? " + _ASK_FOR,
}
"""Set → question; a cause takes `CAUSE_QUESTION`. Places: {class}, {article}, {task}, {cause}, {n}."""
CAUSE_QUESTION = (
    "Describe the {cause} of a {task} called {class} as it is seen in a photograph, and nothing else. " + _ASK_FOR
)
_PLACES = ("class", "article", "task", "cause", "n")
_NUMBER = re.compile(r"^\s*(?:[-*•–]+|\(?\d+\s*[.):]|\d+\s*[-–])\s*")
_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'])")


@dataclass(frozen=True)
class Asking:
    """What is asked about every class.

    Args:
        task: what the classes are kinds of, such as "pet" or "texture".
        wanted: different usable sentences per class and set.
        question: own template with {class} and, if wanted, {article}, {task}, {cause}, {n}; "" for the default.
        rounds: questions per class before giving up on the rest.
        min_length: characters of a usable sentence.
    Raises: ValueError for a template without {class}, or with unknown places.
    """

    task: str = "object"
    wanted: int = 25
    question: str = ""
    rounds: int = 4
    min_length: int = MIN_LENGTH

    def __post_init__(self) -> None:
        if self.wanted < 1 or self.rounds < 1:
            raise ValueError(f"Describe: wanted and rounds must be at least 1, got {self.wanted} and {self.rounds}.")
        if not self.question:
            return
        places = re.findall(r"\{([^{}]*)\}", self.question)
        unknown = sorted(set(places) - set(_PLACES))
        if "class" not in places or unknown:
            raise ValueError(
                "Describe: the question needs {class} and may have {article}, {task}, {cause} and {n}; "
                f"it has {', '.join('{' + p + '}' for p in places) or 'none of them'}."
            )

    def template(self, name: str) -> str:
        """The question of a set, with its places."""
        return self.question or QUESTIONS.get(name, CAUSE_QUESTION)

    def question_for(self, name: str, class_name: str, n: int) -> str:
        word = class_name.replace("_", " ").replace(".", "")
        article = "an" if word[:1].lower() in "aeiou" else "a"
        filled = {"class": word, "article": article, "task": self.task, "cause": name, "n": str(n)}
        return re.sub(r"\{(\w+)\}", lambda place: filled[place[1]], self.template(name))


def describe_classes(
    endpoint: Endpoint,
    class_names: Sequence[str],
    sets: Sequence[str],
    out: str | Path,
    asking: Asking = Asking(),
    *,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, dict[str, list[str]]]:
    """Ask about every class and set, and write `out/<set>.json`, readable by `read_descriptions`.

    Every answer is on disk before the next question; the same call goes on where it stopped, and asks only for what
    is missing. Beside each file lies `<set>.about.json`: model, temperature, question, task.

    Args:
        class_names: as they are in the data set.
        sets: "des", "dist", or names of causes.
        say: called with a line for every class.
    Returns: set → class → sentences. A class may have fewer than wanted, which is said, but never none.
    Raises: EndpointError if the endpoint fails; ValueError if a file there came from another question, or a class got
        no usable sentence.
    """
    folder = Path(out).expanduser()
    if not class_names or not sets:
        raise ValueError("Describe: there is nothing to ask: give at least one class and one set.")
    result = {}
    for name in sets:
        if not re.fullmatch(r"[\w][\w &+-]*", name):
            raise ValueError(f"Describe: a set's name becomes a file's name and must be plain words, got {name!r}.")
        file = folder / f"{name}.json"
        known = _opened(file, _about(endpoint, asking, name))
        for done, class_name in enumerate(dict.fromkeys(class_names), 1):
            sentences = list(known.get(class_name, ()))
            for _ in range(asking.rounds):
                missing = asking.wanted - len(sentences)
                if missing <= 0:
                    break
                answer = endpoint.ask(asking.question_for(name, class_name, missing))
                sentences = distinct([*sentences, *sentences_in(answer, asking.min_length)])[: asking.wanted]
                if sentences:
                    known[class_name] = sentences
                    atomic_write_json(file, _in_order(known, class_names))
            if not sentences:
                raise ValueError(
                    f"Describe: the model gave no usable sentence about {class_name!r} for {name!r} in {asking.rounds} "
                    f"answers: none had {asking.min_length} characters. Try another model or question."
                )
            few = "" if len(sentences) >= asking.wanted else f", {asking.wanted} were asked for"
            say(f"{name}: {class_name} ({done} of {len(class_names)}): {len(sentences)} sentences{few}")
        result[name] = {c: known[c] for c in class_names}
    return result


def sentences_in(answer: str, min_length: int = MIN_LENGTH) -> list[str]:
    """Single sentences out of a model's text: without list numbers, marks and short remains."""
    lines = [_NUMBER.sub("", line).strip().strip("\"'*") for line in answer.splitlines()]
    sentences = [" ".join(part.split()) for line in lines for part in _END.split(line)]
    # "Here are some descriptions:" announces sentences and is none
    return [s for s in sentences if len(s) >= min_length and not s.endswith(":")]


def distinct(sentences: Sequence[str]) -> list[str]:
    """Each sentence once, whatever its capitals and final full stop."""
    kept: dict[str, str] = {}
    for sentence in sentences:
        kept.setdefault(sentence.casefold().rstrip(". "), sentence)
    return list(kept.values())


def _about(endpoint: Endpoint, asking: Asking, name: str) -> dict[str, Any]:
    return {
        "model": endpoint.model,
        "temperature": endpoint.temperature,
        "question": asking.template(name),
        "task": asking.task,
        "set": name,
    }


def _opened(file: Path, about: Mapping[str, Any]) -> dict[str, list[str]]:
    """What the file holds already, if it came from the same question."""
    beside = file.with_suffix(".about.json")
    if not file.exists():
        atomic_write_json(beside, dict(about))
        return {}
    try:
        before = json_value(content_of(beside)) if beside.exists() else None
    except ValueError:
        before = None
    if before != about:
        differs = [key for key in about if not isinstance(before, dict) or before.get(key) != about[key]]
        raise ValueError(
            f"Describe: {file} holds answers to something else ({', '.join(differs)} differ or are not known). "
            "Choose another folder, or remove the file to ask anew."
        )
    return {name: list(sentences) for name, sentences in read_descriptions(file)[file.stem].items()}


def _in_order(known: Mapping[str, list[str]], class_names: Sequence[str]) -> dict[str, list[str]]:
    """Keys in label order, as in the published files; then what else was there."""
    first = {name: known[name] for name in class_names if name in known}
    return {**first, **{name: known[name] for name in known if name not in first}}
