"""Where the weights of a name lie: OpenAI's archives, the hub, files and folders."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cliptune.clip.weights.choice import INNER_FOLDERS, WEIGHT_FILES, chosen
from cliptune.clip.weights.hub import PREFIX, hub_file
from cliptune.clip.weights.merged import Lora, lora_in
from cliptune.clip.weights.openai import OPENAI_CONFIGS, canonical_name, openai_archive
from cliptune.clip.weights.other_towers import of_open_clip
from cliptune.clip.weights.pretrained import Listed, listed_weights, named_weights, tags_of, which_tag

_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
# open_clip's way of naming a folder.
_LOCAL = "local-dir:"
_TAG = re.compile(r"[\w.-]+", re.ASCII)
_ORGANISATION = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", re.ASCII)


@dataclass(frozen=True)
class Weights:
    """A file to load, what to call its CLIP, where it came from, what is to be said of that, as phrases, what open_clip
    lists of it, and the adapter that is to be merged into it.
    """

    path: Path
    name: str
    source: str
    notes: Sequence[str] = ()
    listed: Listed | None = None
    lora: Lora | None = None


def is_other(name: str) -> bool:
    """Whether a name is none of ours and no path."""
    return (
        canonical_name(name) is None and not name.startswith((PREFIX, _LOCAL)) and not Path(name).expanduser().exists()
    )


def locate(name: str, pretrained: str | None, revision: str | None, trust: bool) -> Weights:
    """The weights that `load_clip(name, pretrained, revision=…, trust=…)` means, downloaded if need be.

    Raises: ValueError, FileNotFoundError or OSError with a sentence, as `load_clip`.
    """
    listed = _listed(name, pretrained)
    if listed is not None:
        said: list[str] = _same_repository(listed)
        path, commit = hub_file(listed.repository, revision, trust, said)
        return Weights(path, listed.name, f"{PREFIX}{listed.repository}@{commit or path.parent.name}", said, listed)
    canonical = canonical_name(name)
    if pretrained is None or (pretrained == "openai" and canonical is not None):
        if canonical is not None:
            notes: list[str] = []
            return Weights(openai_archive(canonical, notes), canonical, "openai", notes)
        where = name
    else:
        if canonical is None:
            raise ValueError(
                f"load_clip: pretrained={pretrained!r} goes with an architecture of OpenAI, not {name!r}. "
                f"{_nearest(name)}Or give the path or {PREFIX} name alone.{of_open_clip(name)}"
            )
        where = pretrained
    if where.startswith(PREFIX):
        said = []
        path, commit = hub_file(where, revision, trust, said)
        return Weights(path, name, f"{where.partition('@')[0]}@{commit or path.parent.name}", said)
    where = where.removeprefix(_LOCAL)
    path = Path(where).expanduser()
    lora = lora_in(path) if path.is_dir() else None
    if lora is not None:
        return _of_lora(lora, path, trust)
    if path.is_dir():
        path = _in_folder(path)
    elif not path.exists():
        raise _unknown(name, pretrained)
    return Weights(path, name if pretrained else Path(where).stem, str(path))


def _listed(name: str, pretrained: str | None) -> Listed | None:
    """What open_clip lists as (name, pretrained), or as a name "architecture:tag"; OpenAI's own come from OpenAI.

    Raises: ValueError if it lists the architecture, but not that tag.
    """
    architecture, colon, tag = name.partition(":") if pretrained is None else (name, ":", pretrained)
    if not colon or tag == "openai" or Path(name).expanduser().exists():
        return None
    found = named_weights(architecture, tag)
    if found is None and _TAG.fullmatch(tag) and tags_of(architecture) and not Path(tag).expanduser().exists():
        raise ValueError(
            f'load_clip: pretrained must be "openai", a tag of open_clip, a path or {PREFIX}…, and {tag!r} is none. '
            f"{which_tag(architecture, tag)}"
        )
    return found


def _of_lora(lora: Lora, folder: Path, trust: bool) -> Weights:
    """The weights that an adapter was trained on: a path, seen from here or from its folder, or a name on the hub."""
    near = next((path for path in (Path(lora.base), folder / lora.base) if path.exists()), None)
    base = locate(str(near or f"{PREFIX}{lora.base}"), None, None, trust)
    return replace(base, name=folder.name, source=str(folder), lora=lora)


def _same_repository(listed: Listed) -> list[str]:
    """A phrase if open_clip lists one repository for two tags, which cannot both be right."""
    others = {line.tag for line in listed_weights() if line.repository == listed.repository} - {listed.tag}
    if not others:
        return []
    also = " and ".join(sorted(others))
    return [f"open_clip lists the same repository for {also}, so one of the tags says what it is not"]


def _unknown(name: str, pretrained: str | None) -> Exception:
    where = pretrained or name
    if where.startswith(("hf://", "hf:", "https://huggingface.co/")):
        repository = where.split("://")[-1].removeprefix("hf:").removeprefix("huggingface.co/").strip("/")
        return ValueError(f"load_clip: a model on the hub is written {PREFIX}{repository}, got {where!r}.")
    if Path(where).suffix in _SUFFIXES or len(Path(where).parts) > 2:
        return FileNotFoundError(f"load_clip: there is no file or folder {where}. Check the path.")
    meant = f"If you mean a model on the hub, write {PREFIX}{where}. " if _ORGANISATION.fullmatch(where) else ""
    if tags_of(name):
        return ValueError(
            f"load_clip: {name} is an architecture, not yet its weights. {which_tag(name)}Say which: "
            f"load_clip({name!r}, pretrained=TAG), or {name}:TAG on the command line."
        )
    if pretrained:
        return ValueError(
            f'load_clip: pretrained must be "openai", a path or {PREFIX}…, and {pretrained!r} is none. {meant}'
            f"Weights of open_clip are on the hub, for example {PREFIX}laion/CLIP-ViT-B-16-laion2B-s34B-b88K."
        )
    return ValueError(
        f"load_clip: {name!r} is neither a known CLIP nor a file or folder. {_nearest(name)}{meant}"
        f"Known are mini, {', '.join(OPENAI_CONFIGS)}, paths, and {PREFIX}organisation/name."
        f"{of_open_clip(name)}"
    )


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, ["mini", *OPENAI_CONFIGS], n=2, cutoff=0.4)
    return f"Did you mean {' or '.join(near)}? " if near else ""


def _in_folder(folder: Path) -> Path:
    """The weights in a folder: the names that open_clip and Hugging Face use, else the only file there is."""
    inside = {f"{inner}{path.name}" for inner in INNER_FOLDERS for path in (folder / inner).glob("*") if path.is_file()}
    name = chosen(inside, folders=INNER_FOLDERS)
    if name is not None:
        return folder / name
    if folder.name.startswith("models--") and (folder / "snapshots").is_dir():
        snapshots = ", ".join(str(path) for path in sorted((folder / "snapshots").iterdir())) or "none"
        repository = folder.name.removeprefix("models--").replace("--", "/", 1)
        raise ValueError(
            f"load_clip: {folder} is where the hub's client keeps what it downloaded, not a model. Write "
            f"{PREFIX}{repository}, or give one of its snapshots: {snapshots}."
        )
    files = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)
    if len(files) == 1:
        return files[0]
    found = ", ".join(path.name for path in files) or "none"
    raise FileNotFoundError(
        f"load_clip: {folder} should hold {', '.join(WEIGHT_FILES)}, or a single *.pt, *.pth, *.bin or "
        f"*.safetensors; found {found}. Give the path of the file."
    )
