#!/usr/bin/env bash
# transformers 5.24.0: `AutoTokenizer` opens a folder whose tokenizer_config.json names SiglipTokenizer (as those of
# google/siglip-* do) by its sentencepiece model alone. The tokenizer.json that lies beside it is not looked at: without
# the package sentencepiece, which `pip install transformers` does not bring, it stops with an ImportError, and with it
# the class is a slow one, which gives no offsets of tokens in the text. `PreTrainedTokenizerFast` opens the same folder.
# (Vocabulary made here; only the name of the class is the published one.)
# Seen: "AutoTokenizer: ImportError, SiglipTokenizer requires the SentencePiece library", then
# "PreTrainedTokenizerFast: fast True, offsets [(0, 1), (2, 7)]".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile transformers==5.24.0
cat > "$work/try.py" <<'P'
import json
import sys
from pathlib import Path
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
folder = Path(sys.argv[1]) / "siglip"
made = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1, "a": 2, "photo": 3}, unk_token="<unk>"))
made.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", eos_token="</s>").save_pretrained(folder)
path = folder / "tokenizer_config.json"
path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer_class": "SiglipTokenizer"}))
try:
    print(AutoTokenizer.from_pretrained(folder).is_fast)
except ImportError as error:
    said = next(line for line in str(error).splitlines() if line)
    print(f"AutoTokenizer: ImportError, {said.partition(' but')[0]}")
fast = PreTrainedTokenizerFast.from_pretrained(folder)
offsets = fast("a photo", add_special_tokens=False, return_offsets_mapping=True).offset_mapping
print(f"PreTrainedTokenizerFast: fast {fast.is_fast}, offsets {offsets}")
P
seen=$(HOME="$work" HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/try.py" "$work" 2>/dev/null)
echo "$seen"
[ "$seen" = "AutoTokenizer: ImportError, SiglipTokenizer requires the SentencePiece library
PreTrainedTokenizerFast: fast True, offsets [(0, 1), (2, 7)]" ]
