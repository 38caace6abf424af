#!/usr/bin/env bash
# tokenizers 0.23.3: a Unigram vocabulary, the kind of SigLIP's and XLM-V's, trained twice on the same lines in one
# process gives other ids: pieces of equal score come in an order that changes from call to call. Text is cut into the
# same pieces, but an embedding trained with the one tokenizer.json reads other rows with the next. BPE trained on the
# same lines is the same every time. So such a vocabulary is saved once, and never "made again from the corpus".
# Seen: "Unigram: several vocabularies, the same pieces of text", "BPE: one vocabulary, the same pieces of text".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile tokenizers==0.23.3
cat > "$work/try.py" <<'P'
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
LINE = "a photo of a red panda and a picture of the golden retriever, lynx, puma, blue jay, lemon pie, black-eyed susan"
SAID = {"vocab_size": 200, "special_tokens": ["<unk>"], "show_progress": False}
KINDS = {
    "Unigram": (models.Unigram, trainers.UnigramTrainer(unk_token="<unk>", **SAID)),
    "BPE": (lambda: models.BPE(unk_token="<unk>"), trainers.BpeTrainer(**SAID)),
}
for name, (model, trainer) in KINDS.items():
    vocabularies, cuts = set(), set()
    for _ in range(20):
        made = Tokenizer(model())
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        made.train_from_iterator([LINE, *LINE.split()], trainer)
        vocabularies.add(tuple(sorted(made.get_vocab().items())))
        cuts.add(tuple(made.encode("a photo of a golden panda").tokens))
    told = "one vocabulary" if len(vocabularies) == 1 else "several vocabularies"
    print(f"{name}: {told}, {'the same' if len(cuts) == 1 else 'other'} pieces of text")
P
seen=$("$work/venv/bin/python" "$work/try.py")
echo "$seen"
[ "$seen" = "Unigram: several vocabularies, the same pieces of text
BPE: one vocabulary, the same pieces of text" ]
