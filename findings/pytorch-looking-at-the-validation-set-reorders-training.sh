#!/usr/bin/env bash
# torch 2.14.1: every `for ... in DataLoader(...)` draws a number from the global generator at its start, also without
# workers, without shuffling and on a loader that has nothing random. A loop over the validation set between two
# epochs thus changes the order of the training pictures after it (and dropout, augmentation, new prompts): two runs
# with one seed, one validated, part after the first epoch. With a generator of their own for each loader they do not.
# Seen: "epoch 1 the same True, epoch 2 the same False", "own generators: epoch 2 the same True".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile torch==2.14.1 numpy==2.4.6
cat > "$work/try.py" <<'P'
import torch
from torch.utils.data import DataLoader

def orders(validated, own):
    torch.manual_seed(0)
    made = (lambda: torch.Generator().manual_seed(1)) if own else (lambda: None)
    training = DataLoader(torch.arange(20), shuffle=True, generator=made())
    validation = DataLoader(torch.arange(4), generator=made())
    epochs = []
    for _ in range(2):
        epochs.append([batch.item() for batch in training])
        if validated:
            list(validation)
    return epochs

plain, validated = orders(False, own=False), orders(True, own=False)
print(f"epoch 1 the same {plain[0] == validated[0]}, epoch 2 the same {plain[1] == validated[1]}")
print(f"own generators: epoch 2 the same {orders(False, own=True)[1] == orders(True, own=True)[1]}")
P
seen=$("$work/venv/bin/python" "$work/try.py" 2>/dev/null)
echo "$seen"
[ "$seen" = "epoch 1 the same True, epoch 2 the same False
own generators: epoch 2 the same True" ]
