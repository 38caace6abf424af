"""The nine CLIPs that OpenAI published: names, sizes, where the archives lie and what they must hash to."""

from __future__ import annotations

from pathlib import Path

from cliptune.clip.model import CLIPConfig
from cliptune.clip.tokenizer import VOCAB_SIZE
from cliptune.clip.weights.checkpoint import sha256
from cliptune.clip.weights.download import OFFLINE_VARIABLES, cache_folder, fetch, offline

_SOURCE = "https://openaipublic.azureedge.net/clip/models"
CONTEXT = 77


def _config(embed: int, resolution: int, image: tuple[int, int | tuple[int, ...], int], text_width: int) -> CLIPConfig:
    width, layers, patch = image
    return CLIPConfig(
        embed=embed,
        resolution=resolution,
        image_width=width,
        image_layers=layers,
        patch=patch,
        context=CONTEXT,
        vocab=VOCAB_SIZE,
        text_width=text_width,
        text_layers=12,
    )


# (image width, layers, patch); a ResNet has a stem width, four stages and no patch.
OPENAI_CONFIGS = {
    "RN50": _config(1024, 224, (64, (3, 4, 6, 3), 0), 512),
    "RN101": _config(512, 224, (64, (3, 4, 23, 3), 0), 512),
    "RN50x4": _config(640, 288, (80, (4, 6, 10, 6), 0), 640),
    "RN50x16": _config(768, 384, (96, (6, 8, 18, 8), 0), 768),
    "RN50x64": _config(1024, 448, (128, (3, 15, 36, 10), 0), 1024),
    "ViT-B/32": _config(512, 224, (768, 12, 32), 512),
    "ViT-B/16": _config(512, 224, (768, 12, 16), 512),
    "ViT-L/14": _config(768, 224, (1024, 24, 14), 768),
    "ViT-L/14@336px": _config(768, 336, (1024, 24, 14), 768),
}

# SHA-256 of each archive; OpenAI's addresses contain them.
CHECKSUMS = {
    "RN50": "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
    "RN101": "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599",
    "RN50x4": "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd",
    "RN50x16": "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa",
    "RN50x64": "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c",
    "ViT-B/32": "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    "ViT-B/16": "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
    "ViT-L/14": "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
    "ViT-L/14@336px": "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
}


def canonical_name(name: str) -> str | None:
    """OpenAI's spelling of `name`, whatever its case and punctuation (`vit_b16`, `ViT-L-14-336`), or None.

    What begins with a dot, slash or tilde is a path, not a name.
    """
    if not name[:1].isalnum():
        return None
    return {_letters(known): known for known in OPENAI_CONFIGS}.get(_letters(name))


def openai_archive(name: str, notes: list[str] | None = None) -> Path:
    """The archive of `name` (OpenAI's spelling): found in our cache or in OpenAI's own, else downloaded.

    Every file is checked against its published SHA-256 before it is used.

    Args:
        notes: what was found in OpenAI's own cache is added here, as a phrase.
    Raises: FileNotFoundError in offline mode if it is in neither place, saying what to put where; ValueError
        if the file in our cache is another one; OSError if the download fails.
    """
    file, checksum = archive_file(name), CHECKSUMS[name]
    ours, theirs = cache_folder() / "openai" / file, Path("~/.cache/clip").expanduser() / file
    if ours.exists():
        found = sha256(ours)
        if found != checksum:
            raise ValueError(
                f"load_clip: {ours} should be OpenAI's {name} with SHA-256 {checksum}, but has {found}. "
                "It is incomplete or another file; delete it, then run the same command again."
            )
        return ours
    said = [] if notes is None else notes
    if theirs.exists():
        if sha256(theirs) == checksum:
            said.append(f"its archive is the one in {theirs.parent}")
            return theirs
        said.append(f"{theirs} has another SHA-256 than OpenAI's archive and was passed over")
    if offline():
        raise FileNotFoundError(
            f"load_clip: offline mode is on ({OFFLINE_VARIABLES}) and the weights of {name} "
            f"are not here. Put {file} (SHA-256 {checksum}) at {ours} or {theirs}; "
            f"it comes from {archive_url(name)}."
        )
    return fetch(archive_url(name), ours, checksum)


def archive_file(name: str) -> str:
    return name.replace("/", "-").replace("@", "-") + ".pt"


def archive_url(name: str) -> str:
    return f"{_SOURCE}/{CHECKSUMS[name]}/{archive_file(name)}"


def _letters(name: str) -> str:
    letters = "".join(c for c in name.lower() if c.isalnum())
    return letters.removesuffix("quickgelu").removesuffix("px")
