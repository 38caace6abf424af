#!/usr/bin/env bash
# open_clip 3.3.0: `ViT-B-16-plus-240` is listed with two tags, laion400m_e31 and laion400m_e32 (after epoch 31 and 32), and
# both name one repository of the hub, that of e31; their older addresses are two files with two hashes. The hub goes first,
# so "laion400m_e32" gives the weights of e31, without a word.
# Seen: "timm/vit_base_patch16_plus_clip_240.laion400m_e31/ 2 tags, 2 addresses".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --no-deps open_clip_torch==3.3.0
cat > "$work/try.py" <<'P'
# The list alone, as data: the package itself would need torch.
import importlib.util, sys, types
from pathlib import Path
import collections
site = next(Path(sys.prefix).glob("lib/python*/site-packages/open_clip"))
package = types.ModuleType("open_clip"); package.__path__ = [str(site)]
sys.modules["open_clip"] = package
for name, members in (("tqdm", ["tqdm"]), ("open_clip.version", ["__version__"])):
    stub = types.ModuleType(name); [setattr(stub, member, "3.3.0") for member in members]
    sys.modules[name] = stub
spec = importlib.util.spec_from_file_location("open_clip.pretrained", site / "pretrained.py")
module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
places = collections.defaultdict(list)
for tag, config in module._PRETRAINED["ViT-B-16-plus-240"].items():
    places[config["hf_hub"]].append((tag, config["url"]))
for place, found in places.items():
    print(place, len(found), "tags,", len({url for _, url in found}), "addresses")
P
seen=$("$work/venv/bin/python" "$work/try.py")
echo "$seen"
[ "$seen" = "timm/vit_base_patch16_plus_clip_240.laion400m_e31/ 2 tags, 2 addresses" ]
