"""CLIPs on the Hugging Face hub: `hf-hub:organisation/name`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from cliptune.clip.weights.checkpoint import sha256
from cliptune.clip.weights.declared import HUGGING_FACE_CONFIG, HUGGING_FACE_IMAGES, OPEN_CLIP_CONFIG
from cliptune.clip.weights.download import offline
from cliptune.reading import shown

PREFIX = "hf-hub:"
# In the order in which they are preferred: what can hold no code first.
WEIGHT_FILES = (
    "open_clip_model.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
)
# How the hub's client names what it keeps: large files by SHA-256, small ones by Git's SHA-1.
_SHA256, _GIT_SHA1 = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{40}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]*", re.ASCII)
_LONGEST_NAME, _LONGEST_REVISION = 96, 200


def hub_file(name: str, revision: str | None = None, trust: bool = False) -> Path:
    """The weights of `name` in the hub's local cache, downloaded if need be, with their configuration files.

    Every file is checked against the hash by which the hub names its content (`checked`).

    Args:
        name: `hf-hub:organisation/name`, or the part after the colon; `@revision` may follow.
        revision: branch, tag or commit; None for the main branch.
        trust: take files for which the cache holds no hash, at a branch or tag.
    Raises: FileNotFoundError if the repository or its weights do not exist, or are not in the cache in
        offline mode; ValueError if the name is malformed, a checksum wrong or not to be had; OSError if the network
        fails.
    """
    who = "load_clip"
    repository, revision = named(name, revision, who)
    path = _first(repository, WEIGHT_FILES, revision, who)
    for file in (OPEN_CLIP_CONFIG, HUGGING_FACE_CONFIG, HUGGING_FACE_IMAGES):
        beside = _download(repository, file, revision, who)
        if beside is not None:
            checked(beside, revision, trust, who)
    return checked(path, revision, trust, who)


def hub_folder(name: str, who: str) -> Path:
    """The folder in the hub's local cache that holds weights and `config.json` of a model, both checked.

    Args:
        name: `organisation/name`, or with `@revision`.
        who: begins the errors, which are those of `hub_file`.
    """
    repository, revision = named(name, None, who)
    path = checked(_first(repository, WEIGHT_FILES[1:], revision, who, "a model"), revision, False, who)
    config = _download(repository, HUGGING_FACE_CONFIG, revision, who)
    if config is None:
        raise FileNotFoundError(f"{who}: {repository} on the hub has no {HUGGING_FACE_CONFIG}. Give another model.")
    checked(config, revision, False, who)
    return path.parent


def hub_files(
    name: str, files: Sequence[str], who: str, *, revision: str | None = None, trust: bool = False
) -> dict[str, Path]:
    """Some files of a repository, all of one commit, each checked; those that it does not have are left out.

    Args:
        name, revision, trust: as in `hub_file`. who: begins the errors, which are those of `hub_file`.
    """
    repository, revision = named(name, revision, who)
    found: dict[str, Path] = {}
    for file in files:
        path = _download(repository, file, revision, who)
        if path is not None:
            found[file] = checked(path, revision, trust, who)
            # A branch may move between two files; the client keeps each commit in a folder of its name.
            if _GIT_SHA1.fullmatch(path.parent.name):
                revision = path.parent.name
    return found


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


def checked(path: Path, revision: str | None, trust: bool, who: str) -> Path:
    """A file of the hub's cache, if its content is the one that the hub names.

    The client keeps content under its hash and links to it. Where the file system has no links there is no hash; a
    commit then says which content is meant, though nothing here can verify it.

    Raises: ValueError for other content; or without a hash, at a branch or tag, unless it is trusted.
    """
    stored_as = path.resolve().name
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


def _first(repository: str, files: Sequence[str], revision: str | None, who: str, what: str = "a CLIP") -> Path:
    """The first of these files that the repository has."""
    for file in files:
        path = _download(repository, file, revision, who)
        if path is not None:
            return path
    missing = f"{PREFIX}{repository}, revision {revision or 'main'}, has none of {', '.join(files)}"
    if offline():
        raise FileNotFoundError(
            f"{who}: {missing} in the local cache, and offline mode is on (CLIPTUNE_OFFLINE or "
            "HF_HUB_OFFLINE). Load it once with the network, or give the path of a folder with its files."
        )
    raise FileNotFoundError(f"{who}: {missing} on the hub. Give a repository that holds {what}.")


def _download(repository: str, file: str, revision: str | None, who: str) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(hf_hub_download(repository, file, revision=revision, local_files_only=offline()))
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"{who}: the hub has no model {repository!r}, or it is private. Check the name; for a "
            "private one, log in with `hf auth login`."
        ) from error
    except RevisionNotFoundError as error:
        raise FileNotFoundError(f"{who}: {repository} on the hub has no revision {revision!r}.") from error
    except LocalEntryNotFoundError as error:
        if offline():
            return None
        raise _unreachable(repository, error, who) from error
    except EntryNotFoundError:
        return None
    except (HfHubHTTPError, ConnectionError, TimeoutError) as error:
        raise _unreachable(repository, error, who) from error


def _unreachable(repository: str, error: Exception, who: str) -> OSError:
    reason = shown((str(error).splitlines() or [type(error).__name__])[0], 300)
    return OSError(
        f"{who}: the hub could not be asked for {repository} ({reason}) Try again, "
        "or set HF_HUB_OFFLINE=1 to use what was downloaded before."
    )
