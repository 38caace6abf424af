"""`cliptune backbones`: what CLIPs there are by name, and what one of them is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cliptune.cli.shared.options import Flag, WeightsOptions
from cliptune.cli.shared.output import say, show_json, table

if TYPE_CHECKING:
    from cliptune.clip.weights.overview import Backbone


def backbones(name: str | None = None, /, *, json: Flag = False, weights: WeightsOptions = WeightsOptions()) -> None:
    """List the backbones that have a name; with one, or a path, say all that is known of it.

    What open_clip lists is told without its weights; files and folders are opened.

    Parameters
    ----------
    name
        A name of the list, a part of one such as ViT-L-14, or whatever --backbone takes.
    json
        Print JSON.
    """
    from cliptune.clip.weights.overview import as_dict, known_backbones, listed_backbone

    if name is None:
        found = list(known_backbones())
    else:
        exact = listed_backbone(name)
        part = name.lower().replace("/", "-")
        found = [exact] if exact else [one for one in known_backbones() if part in one.name.lower()]
        found = found or [_opened(name, weights)]
    if json:
        show_json([as_dict(backbone) for backbone in found])
    elif len(found) == 1 and name is not None:
        _tell(found[0])
    else:
        _list(found)


def _opened(name: str, weights: WeightsOptions) -> Backbone:
    from cliptune.cli.shared.inputs import open_clip
    from cliptune.clip.weights.overview import described, stated_licence

    clip = open_clip(name, weights)
    return described(clip, "", stated_licence(clip))


def _list(found: list[Backbone]) -> None:
    rows = [
        (
            one.name,
            "tokens" if "tokens" in one.image_ports else "no tokens",
            f"{one.resolution}",
            f"{one.width}",
            f"{one.parameters / 1e6:,.1f}",
            f"{one.megabytes:,.0f}",
            f"{one.context}",
        )
        for one in found
    ]
    table(("backbone", "image tower", "pixels", "width", "million parameters", "MiB", "context"), rows, left=2)
    say("`cliptune backbones NAME` says more of one; paths and hf-hub:organisation/name open as well.")


def _tell(one: Backbone) -> None:
    for what, told in {
        one.name: f"from {one.source}",
        "image tower": f"{one.layers} {'blocks' if 'tokens' in one.image_ports else 'bottlenecks'}, width {one.width}, "
        f"{one.resolution} pixels",
        "text tower": f"{one.context} tokens; joint size {one.embed}",
        "size": f"{one.parameters:,} parameters, {one.megabytes:,.0f} MiB in float32",
        "activation": one.activation,
        "pictures": one.pictures,
        "ports": f"image: {', '.join(one.image_ports)}; text: tokens, bias, delta",
        "licence": one.licence or "not said by its configuration; see where it comes from",
        "verified": one.verified or "not listed: compare it with its publisher's code",
    }.items():
        say(f"{what:<12} {told}")
