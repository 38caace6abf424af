"""Hand-written template ensembles, generated from their grammar."""

from __future__ import annotations

# The seven that OpenAI selected for ImageNet.
SELECTED = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


def _imagenet() -> tuple[str, ...]:
    quality = "bad|low resolution|cropped|bright|dark|close-up|black and white|pixelated|jpeg corrupted|blurry|good"
    looks = "hard to see|clean|dirty|cool|large|nice|weird|small"
    rendered = "sculpture|rendering|tattoo|drawing|painting|doodle|sketch|rendition"
    materials = "embroidered|plastic|origami|toy|cartoon|plushie"
    lines = [f"a {q} photo of {a} {{}}." for q in quality.split("|") for a in ("a", "the")]
    lines += [f"a photo of {a} {w} {{}}." for w in looks.split("|") for a in ("a", "the")]
    lines += [f"a photo of {w} {{}}." for w in ("a", "the", "my", "one", "many")]
    lines += [f"a {n} of {a} {{}}." for n in rendered.split("|") for a in ("a", "the")]
    lines += [f"{n} of {a} {{}}." for n in ("graffiti", "art") for a in ("a", "the")]
    lines += [f"itap of {w} {{}}." for w in ("a", "the", "my")]
    lines += [f"{a} {m} {{}}." for m in materials.split("|") for a in ("a", "the")]
    return (*lines, "a {} in a video game.", "the {} in a video game.")


IMAGENET = _imagenet()

# PromptSRC's sixty are CLIP's eighty without these.
_NOT_IN_SIXTY = [
    "a jpeg corrupted photo of the",
    "a good photo of a",
    "a plushie",
    "the plushie",
    "a photo of the nice",
    "a photo of the small",
    "a photo of a small",
    "a photo of the weird",
    "a photo of the large",
    "a photo of a cool",
    "the cartoon",
    "art of the",
    "a drawing of the",
    "a black and white photo of a",
    "a dark photo of a",
    "itap of a",
    "itap of my",
    "graffiti of the",
    "a toy",
    "a tattoo of the",
]
SIXTY = tuple(t for t in IMAGENET if t.removesuffix(" {}.") not in _NOT_IN_SIXTY)

ENSEMBLES = {"selected7": SELECTED, "promptsrc60": SIXTY, "imagenet80": IMAGENET}


def ensemble(name: str) -> tuple[str, ...]:
    """Templates of a named ensemble: "selected7", "promptsrc60" or "imagenet80" (CLIP, arXiv:2103.00020)."""
    if name not in ENSEMBLES:
        raise ValueError(f"Templates: unknown ensemble {name!r}. Choose one of {', '.join(ENSEMBLES)}.")
    return ENSEMBLES[name]
