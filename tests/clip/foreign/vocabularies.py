"""Tokenizer files of the kinds that models of open_clip name, made from a few sentences."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

WORDS = (
    "a photo of a cat. a picture of the dog, and one of a golden retriever; forest, Boeing 737-800, red panda, lemon "
    "meringue pie, black-eyed susan, blackeyed susan, A340-300, x X lynx puma red fox snow blue jay circle drawing"
)
LINES = [WORDS, WORDS.lower(), *WORDS.split()]


def sentencepiece(folder: Path, front: bool = False) -> Path:
    """As SigLIP's (</s> behind and as padding), or as XLM-V's (<s> in front, a padding of its own)."""
    special = ["<s>", "<pad>", "</s>", "<unk>"] if front else ["<pad>", "</s>", "<unk>"]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=280, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(LINES, trainer)
    end = special.index("</s>")
    single = "<s> $A </s>" if front else "$A </s>"
    named = [("<s>", 0), ("</s>", end)] if front else [("</s>", end)]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=named)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="</s>",
        pad_token="<pad>" if front else "</s>",
        unk_token="<unk>",
        bos_token="<s>" if front else None,
    )
    fast.save_pretrained(folder)
    return folder


def bert(folder: Path) -> Path:
    """As CLIPA's: [CLS] in front, [SEP] behind, id 0 as padding."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=280, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(LINES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]"
    )
    fast.save_pretrained(folder)
    return folder
