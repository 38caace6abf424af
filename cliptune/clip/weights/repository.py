"""A repository of the Hugging Face hub at one commit: its list of files, from the hub or from the local cache."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from cliptune.clip.weights.download import offline
from cliptune.reading import shown

# The list is asked for once, so that a fully cached model opens at once where there is no network.
_SECONDS = 5
_COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class Repository:
    """What is known of a repository at a revision.

    Args:
        name: organisation/name. revision: branch, tag or commit that was asked for; None for the main branch.
        files: names of its files; of the local cache, those that are there.
        commit: that the revision stands for; None if it is not known.
        cached: folder of the local cache that the files are taken from; None if they come from the hub.
        hashes: file → SHA-256 or Git's SHA-1, as the hub names its content.
        notes: what was decided, as phrases.
    """

    name: str
    revision: str | None
    files: frozenset[str]
    commit: str | None = None
    cached: Path | None = None
    hashes: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def file(self, name: str, who: str) -> Path:
        """A file of the repository in the local cache, downloaded if need be. Raises: OSError if that fails."""
        from huggingface_hub import hf_hub_download

        if self.cached is not None:
            return self.cached / name
        try:
            return Path(hf_hub_download(self.name, name, revision=self.commit or self.revision))
        except Exception as error:  # the client's transport has errors of its own, which differ by its version
            raise unreachable(self.name, error, who) from error


def open_repository(name: str, revision: str | None, who: str, ask: bool = False) -> Repository:
    """The repository as the hub has it; as the local cache has it in offline mode, or where the hub does not answer.

    A commit that is cached is not asked for again, unless `ask`.

    Raises: FileNotFoundError if the hub has no such repository or revision; OSError if it does not answer and nothing
        is cached.
    """
    cached = _cached(name, revision)
    if offline():
        note = ("offline mode is on, so the copy that was downloaded before was taken",)
        return cached_repository(name, revision, cached, note)
    if not ask and cached is not None and revision is not None and _COMMIT.fullmatch(revision):
        return cached_repository(name, revision, cached)
    return asked(name, revision, cached, who)


def cached_repository(name: str, revision: str | None, folder: Path | None, notes: tuple[str, ...] = ()) -> Repository:
    if folder is None:
        return Repository(name, revision, frozenset())
    files = frozenset(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return Repository(name, revision, files, folder.name, folder, notes=notes)


def asked(name: str, revision: str | None, cached: Path | None, who: str) -> Repository:
    """The list of files on the hub, with their hashes; what is cached, if the hub does not answer."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = HfApi().model_info(name, revision=revision, timeout=_SECONDS, files_metadata=True)
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"{who}: the hub has no model {name!r}, or it is private. Check the name; for a "
            "private one, log in with `hf auth login`."
        ) from error
    except RevisionNotFoundError as error:
        raise FileNotFoundError(f"{who}: {name} on the hub has no revision {revision!r}.") from error
    except Exception as error:  # the client's transport has errors of its own, which differ by its version
        if cached is None:
            raise unreachable(name, error, who) from error
        note = ("the hub did not answer, so the copy that was downloaded before was taken",)
        return cached_repository(name, revision, cached, note)
    entries = info.siblings or []
    hashes = {entry.rfilename: entry.lfs.sha256 if entry.lfs else entry.blob_id for entry in entries}
    known = {file: value for file, value in hashes.items() if isinstance(value, str)}
    return Repository(name, revision, frozenset(hashes), info.sha, hashes=known)


def _cached(name: str, revision: str | None) -> Path | None:
    """The folder in which the hub's client keeps the files of a revision; None if there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, FileNotFoundError):
        return None


def unreachable(name: str, error: Exception, who: str) -> OSError:
    reason = shown((str(error).splitlines() or [type(error).__name__])[0], 300)
    return OSError(
        f"{who}: the hub could not be asked for {name} ({reason}) Try again, "
        "or set HF_HUB_OFFLINE=1 to use what was downloaded before."
    )
