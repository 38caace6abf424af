"""CLIPs on the Hugging Face hub: `hf-hub:organisation/name`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from cliptune.clip.foreign.configuration import TOKENIZER_FILES
from cliptune.clip.weights.checkpoint import sha256
from cliptune.clip.weights.choice import INNER_FOLDERS, WEIGHT_FILES, chosen
from cliptune.clip.weights.declared import (
    HUGGING_FACE_CONFIG,
    HUGGING_FACE_IMAGES,
    HUGGING_FACE_PROCESSOR,
    OPEN_CLIP_CONFIG,
)
from cliptune.clip.weights.download import OFFLINE_VARIABLES, offline
from cliptune.clip.weights.other_towers import declares_tokenizer
from cliptune.clip.weights.repository import Repository, open_repository
from cliptune.clip.weights.shards import is_index, shards
from cliptune.reading import shown

PREFIX = "hf-hub:"
# What else a tokenizer of transformers may be made of.
_OF_TOKENIZERS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt", "vocab.json")
# How the hub's client names what it keeps: large files by SHA-256, small ones by Git's SHA-1.
_SHA256, _GIT_SHA1 = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{40}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]*", re.ASCII)
_LONGEST_NAME, _LONGEST_REVISION = 96, 200


def hub_file(
    name: str, revision: str | None = None, trust: bool = False, notes: list[str] | None = None
) -> tuple[Path, str | None]:
    """The weights of `name` in the hub's local cache, downloaded if need be, with their configuration files.

    Every file is checked against the hash by which the hub names its content (`checked`).

    Args:
        name: `hf-hub:organisation/name`, or the part after the colon; `@revision` may follow.
        revision: branch, tag or commit; None for the main branch.
        trust: take files for which there is no hash, at a branch or tag.
        notes: what was decided is added here, as phrases.
    Returns: the file, or the index of weights that are split over several files; and the commit, if it is known.
    Raises: FileNotFoundError if the repository or its weights do not exist, or are not in the cache in
        offline mode; ValueError if the name is malformed, a checksum wrong or not to be had; OSError if the network
        fails.
    """
    who = "load_clip"
    repository, file = _with_weights(*named(name, revision, who), WEIGHT_FILES, INNER_FOLDERS, who)
    folder, configured = file.rpartition("/")[0], None
    for beside in (OPEN_CLIP_CONFIG, HUGGING_FACE_CONFIG, HUGGING_FACE_IMAGES, HUGGING_FACE_PROCESSOR):
        place = f"{folder}/{beside}" if folder else beside
        if place in repository.files:
            configured = _fetched(repository, place, trust, who).parent
    if configured is not None and declares_tokenizer(configured):
        for beside in (*TOKENIZER_FILES, *_OF_TOKENIZERS):
            place = f"{folder}/{beside}" if folder else beside
            if place in repository.files:
                _fetched(repository, place, trust, who)
    path = _fetched(repository, file, trust, who)
    for shard in shards(path) if is_index(path) else ():
        place = f"{folder}/{shard}" if folder else shard
        if place not in repository.files:
            raise FileNotFoundError(f"{who}: {PREFIX}{repository.name} lacks {shard}, of which its {path.name} speaks.")
        _fetched(repository, place, trust, who)
    if notes is not None:
        notes.extend(repository.notes)
    return path, repository.commit


def hub_folder(name: str, who: str) -> Path:
    """The folder in the hub's local cache that holds weights and `config.json` of a model, both checked.

    Args:
        name: `organisation/name`, or with `@revision`.
        who: begins the errors, which are those of `hub_file`.
    """
    repository, file = _with_weights(*named(name, None, who), WEIGHT_FILES[1:], ("",), who, "a model")
    path = _fetched(repository, file, False, who)
    if HUGGING_FACE_CONFIG not in repository.files:
        raise FileNotFoundError(
            f"{who}: {repository.name} on the hub has no {HUGGING_FACE_CONFIG}. Give another model."
        )
    _fetched(repository, HUGGING_FACE_CONFIG, False, who)
    for shard in shards(path) if is_index(path) else ():
        _fetched(repository, shard, False, who)
    return path.parent


def _with_weights(
    name: str, revision: str | None, files: Sequence[str], folders: Sequence[str], who: str, what: str = "a CLIP"
) -> tuple[Repository, str]:
    """The repository, and which of its files holds the weights."""
    repository = open_repository(name, revision, who)
    file = chosen(repository.files, files, folders)
    if file is None and repository.cached is not None and not offline():
        repository = open_repository(name, revision, who, ask=True)  # the cache holds other files of it
        file = chosen(repository.files, files, folders)
    if file is not None:
        return repository, file
    missing = f"{PREFIX}{name}, revision {revision or 'main'}, has none of {', '.join(files)}"
    if offline():
        raise FileNotFoundError(
            f"{who}: {missing} in the local cache, and offline mode is on ({OFFLINE_VARIABLES}). Load it once with the "
            "network, or give the path of a folder with its files."
        )
    raise FileNotFoundError(f"{who}: {missing} on the hub. Give a repository that holds {what}.")


def _fetched(repository: Repository, file: str, trust: bool, who: str) -> Path:
    path = repository.file(file, who)
    return checked(path, repository.revision, trust, who, repository.hashes.get(file))


def hub_files(
    name: str, files: Sequence[str], who: str, *, revision: str | None = None, trust: bool = False
) -> dict[str, Path]:
    """Some files of a repository, all of one commit, each checked; those that it does not have are left out.

    Args:
        name, revision, trust: as in `hub_file`. who: begins the errors, which are those of `hub_file`.
    """
    repository = open_repository(*named(name, revision, who), who)
    return {file: _fetched(repository, file, trust, who) for file in files if file in repository.files}


def named(name: str, revision: str | None, who: str) -> tuple[str, str | None]:
    """Repository and revision of a name on the hub. Raises: ValueError if one of them cannot be such."""
    repository, _, after = name.removeprefix(PREFIX).partition("@")
    revision = revision or after or None
    odd = ".." in repository or "--" in repository or repository.endswith(".git") or len(repository) > _LONGEST_NAME
    if odd or not _REPOSITORY.fullmatch(repository):
        raise ValueError(f"{who}: a hub name must look like {PREFIX}organisation/name, got {shown(name)!r}.")
    if revision is not None and (
        not _REVISION.fullmatch(revision) or ".." in revision or len(revision) > _LONGEST_REVISION
    ):
        raise ValueError(
            f"{who}: a revision is a branch, a tag or a commit, got {shown(revision)!r}. Look it up on the page of "
            f"{repository}."
        )
    return repository, revision


def checked(path: Path, revision: str | None, trust: bool, who: str, named_hash: str | None = None) -> Path:
    """A file of the hub's cache, if its content is the one that the hub names.

    The client keeps content under its hash and links to it. Where the file system has no links, the hub's list of files
    gives the hash (`named_hash`). Where there is none either, as offline, a commit says which content is meant, though
    nothing here can verify it.

    Raises: ValueError for other content; or without a hash, at a branch or tag, unless it is trusted.
    """
    stored_as = path.resolve().name
    if not (_SHA256.fullmatch(stored_as) or _GIT_SHA1.fullmatch(stored_as)):
        stored_as = named_hash or ""
    if _SHA256.fullmatch(stored_as):
        kind, found = "SHA-256", sha256(path)
    elif _GIT_SHA1.fullmatch(stored_as):
        kind, found = "Git hash", _git_sha1(path.read_bytes())
    elif trust or (revision is not None and _GIT_SHA1.fullmatch(revision)):
        return path
    else:
        raise ValueError(
            f"{who}: {path} came without a checksum, because this file system keeps no links. Name the commit that "
            "you mean, hf-hub:organisation/name@COMMIT, or say that you trust what arrived: --trust, "
            "load_clip(…, trust=True)."
        )
    if found != stored_as:
        raise ValueError(
            f"{who}: {path} should have {kind} {stored_as}, but has {found}. Delete {path.resolve()} and load it again."
        )
    return path


def _git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
