"""CLIPs on the Hugging Face hub: `hf-hub:organisation/name`."""

from __future__ import annotations

import re
from pathlib import Path

from cliptune.clip.weights.checkpoint import sha256
from cliptune.clip.weights.declared import HUGGING_FACE_CONFIG, HUGGING_FACE_IMAGES, OPEN_CLIP_CONFIG
from cliptune.clip.weights.download import offline

PREFIX = "hf-hub:"
# In the order in which they are preferred: what can hold no code first.
WEIGHT_FILES = (
    "open_clip_model.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
)
_SHA256 = re.compile("[0-9a-f]{64}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def hub_file(name: str, revision: str | None = None) -> Path:
    """The weights of `name` in the hub's local cache, downloaded if need be, with their configuration files.

    Large files are stored on the hub by their SHA-256, and are checked against it.

    Args:
        name: `hf-hub:organisation/name`, or the part after the colon; `@revision` may follow.
        revision: branch, tag or commit; None for the main branch.
    Raises: FileNotFoundError if the repository or its weights do not exist, or are not in the cache in
        offline mode; ValueError if the name is malformed or a checksum wrong; OSError if the network fails.
    """
    repository, _, after = name.removeprefix(PREFIX).partition("@")
    if not _REPOSITORY.fullmatch(repository):
        raise ValueError(f"load_clip: a hub name must look like {PREFIX}organisation/name, got {name!r}.")
    revision = revision or after or None
    for file in WEIGHT_FILES:
        path = _download(repository, file, revision)
        if path is not None:
            break
    else:
        files = ", ".join(WEIGHT_FILES)
        missing = f"{PREFIX}{repository}, revision {revision or 'main'}, has none of {files}"
        if offline():
            raise FileNotFoundError(
                f"load_clip: {missing} in the local cache, and offline mode is on (CLIPTUNE_OFFLINE or "
                "HF_HUB_OFFLINE). Load it once with the network, or give the path of a folder with its files."
            )
        raise FileNotFoundError(f"load_clip: {missing} on the hub. Give a repository that holds a CLIP.")
    for file in (OPEN_CLIP_CONFIG, HUGGING_FACE_CONFIG, HUGGING_FACE_IMAGES):
        _download(repository, file, revision)
    stored_as = path.resolve().name
    if _SHA256.fullmatch(stored_as) and sha256(path) != stored_as:
        raise ValueError(
            f"load_clip: {path} should have SHA-256 {stored_as}, but has {sha256(path)}. "
            f"Delete {path.resolve()} and load it again."
        )
    return path


def _download(repository: str, file: str, revision: str | None) -> Path | None:
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
            f"load_clip: the hub has no model {repository!r}, or it is private. Check the name; for a "
            "private one, log in with `hf auth login`."
        ) from error
    except RevisionNotFoundError as error:
        raise FileNotFoundError(f"load_clip: {repository} on the hub has no revision {revision!r}.") from error
    except LocalEntryNotFoundError as error:
        if offline():
            return None
        raise _unreachable(repository, error) from error
    except EntryNotFoundError:
        return None
    except (HfHubHTTPError, ConnectionError, TimeoutError) as error:
        raise _unreachable(repository, error) from error


def _unreachable(repository: str, error: Exception) -> OSError:
    return OSError(
        f"load_clip: the hub could not be asked for {repository} ({str(error).splitlines()[0]}) Try again, "
        "or set HF_HUB_OFFLINE=1 to use what was downloaded before."
    )
