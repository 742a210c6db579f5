"""Small tokenizers built as the published ones: how they spell bytes, where spaces go, which tokens are special."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;?!'\"-_()/[]{}<>|=+*&%$#@~^`\\"
WORDS = ("the", "red", "cube", "what", "is", "on", "USER", "ASSISTANT", "é", "日本", "\N{GRINNING FACE}")
LLAMA_SPECIAL = ("<image>", "<pad>")
QWEN_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>")
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def llama(*, is_legacy: bool = True) -> Tokenizer:
    """Llama 2 and what follows from it: bytes as tokens, a space in front of a text, none in front of the decoded."""
    tokenizer = _with_byte_tokens(("<unk>", "<s>", "</s>"))
    if is_legacy:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    strip = decoders.Strip(" ", 1, 0)
    tokenizer.decoder = decoders.Sequence([_spaces(), decoders.ByteFallback(), decoders.Fuse(), strip])
    return _with_special(tokenizer, ("<unk>", "<s>", "</s>", *LLAMA_SPECIAL))


def gemma() -> Tokenizer:
    """Gemma and PaliGemma: bytes as tokens, nothing in front; some plain text is an added token that is not special."""
    tokenizer = _with_byte_tokens(("<pad>", "<eos>", "<bos>", "<unk>", "<loc0001>", "\n\n", "▁▁"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([_spaces(), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in ("<loc0001>", "\n\n", "▁▁")])
    return _with_special(tokenizer, ("<pad>", "<eos>", "<bos>", "<unk>", "<image>"))


def byte_level() -> Tokenizer:
    """GPT-2 and Qwen2: every byte is a character of the vocabulary."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    spelled = [split.pre_tokenize_str(text)[0][0] for word in WORDS for text in (" " + word, word)]
    tokenizer = _bpe(alphabet, spelled, byte_fallback=False, unknown=None)
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    return _with_special(tokenizer, QWEN_SPECIAL)


def _with_byte_tokens(first: Sequence[str]) -> Tokenizer:
    spelled = [text for word in WORDS for text in ("▁" + word, word)]
    return _bpe([*first, *_BYTES, "▁", "\n", "�", *LETTERS], spelled, byte_fallback=True, unknown="<unk>")


def _bpe(
    pieces: Sequence[str], words: Sequence[str], *, byte_fallback: bool, unknown: str | None
) -> Tokenizer:
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    merges: dict[tuple[str, str], None] = {}
    for word in words:
        for end in range(1, len(word)):
            if word[:end] in vocabulary and word[end] in vocabulary:
                vocabulary.setdefault(word[: end + 1], len(vocabulary))
                merges[word[:end], word[end]] = None
    return Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=list(merges),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=byte_fallback,
        )
    )


def _spaces() -> decoders.Decoder:
    return decoders.Replace("▁", " ")


def _with_special(tokenizer: Tokenizer, special: Sequence[str]) -> Tokenizer:
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in special])
    return tokenizer


PUBLISHED: Mapping[str, Tokenizer] = {
    "llama": llama(),
    "mistral": llama(is_legacy=False),
    "gemma": gemma(),
    "byte_level": byte_level(),
}


def id_of(tokenizer: Tokenizer, piece: str) -> int:
    """Return the id of a token that the tokenizer has."""
    found = tokenizer.token_to_id(piece)
    assert found is not None
    return found
