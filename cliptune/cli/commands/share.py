"""`cliptune share`: a run for others, in a folder or on the hub."""

from __future__ import annotations

from cliptune.cli.shared.options import Flag
from cliptune.cli.shared.output import say


def share(
    run: str,
    /,
    *,
    out: str | None = None,
    push: str | None = None,
    licence: str | None = None,
    public: Flag = False,
    overwrite: Flag = False,
) -> None:
    """Write what a finished run learned, its settings and a card with its numbers; or put them on the hub.

    `cliptune predict hf-hub:organisation/name` and cliptune.from_pretrained open them. No picture, no weight of the
    CLIP and no path of this machine is among them.

    Parameters
    ----------
    run
        Folder of the run.
    out
        Folder for the files.
    push
        organisation/name on the Hugging Face hub; log in before with `hf auth login`, or set HF_TOKEN.
    licence
        Of what was learned, as the hub spells it: mit, cc-by-4.0.
    public
        Let everyone see a repository that is made now; else it is private.
    overwrite
        Replace files of an earlier call in --out.
    """
    from cliptune.sharing import push_to_hub, save_pretrained

    if out is None and push is None:
        raise ValueError("share: say where to: --out FOLDER, --push organisation/name, or both.")
    if out is None:
        address = push_to_hub(run, str(push), licence=licence, private=not public)
        say(f"{push} holds the run: {address}")
    else:
        folder = save_pretrained(run, out, push=push, licence=licence, private=not public, overwrite=overwrite)
        say(f"{folder} holds the adapter and its card, README.md" + (f"; so does {push} on the hub." if push else "."))
