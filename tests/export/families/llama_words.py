"""A tokenizer of whole words, case counts, with the lone space where Llama has it: at the end of a prompt."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from saccade.export.loading.prismatic import SPACE_ID

TEMPLATE = "In: What action should the robot take to {instruction}?\nOut: "
_UNKNOWN = "<unk>"
_WORDS = (_UNKNOWN, "<s>", "</s>", *TEMPLATE.replace("?", " ?").split(), "pick", "up", "red", "cup")
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
VOCABULARY = {**{word: number for number, word in enumerate(_WORDS)}, _SPACE: SPACE_ID}


def write_tokenizer(folder: Path, *, last: int = SPACE_ID) -> None:
    """Write ``tokenizer.json``; ``last`` is the id of the lone space."""
    words = models.WordLevel({**VOCABULARY, _SPACE: last}, unk_token=_UNKNOWN)
    tokenizer = Tokenizer(words)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace("?", " ?"), normalizers.Replace(Regex(" $"), f" {_SPACE}")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))


def words(instruction: str) -> list[int]:
    """Return the ids of the prompt of an instruction in lower case, the lone space at its end."""
    prompt = TEMPLATE.replace("{instruction}", instruction).replace("?", " ?")
    return [VOCABULARY[word] for word in prompt.split()] + [SPACE_ID]
