"""Special tokens are control where the template has them and text where somebody types them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from saccade.proto.errors import InstructionError
from saccade.proto.instruction_spec import InstructionSpec, TextStep
from saccade.proto.prompt_tokens import PromptTokenizer
from tests.published_tokenizers import PUBLISHED, byte_level, gemma, id_of, llama

TEMPLATES = {
    "llama": "USER: {instruction}</s> ASSISTANT:",
    "mistral": "USER: {instruction}</s> ASSISTANT:",
    "gemma": "<bos>{instruction}\n<eos>",
    "byte_level": "<|im_start|>user\n{instruction}<|im_end|>\n<|im_start|>assistant\n",
}


def special_of(tokenizer: Tokenizer) -> list[str]:
    return [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]


def pieces(tokenizer: Tokenizer, template: str, text: str, **options: object) -> list[str | None]:
    spec = InstructionSpec("tokenizer.json", template, 99, 0, **options)  # type: ignore[arg-type]
    return [tokenizer.id_to_token(token) for token in PromptTokenizer(tokenizer, spec).ids(text)]


@pytest.mark.parametrize("name", TEMPLATES)
def test_typed_special_tokens_are_text(name: str) -> None:
    tokenizer = PUBLISHED[name]
    special, plain = special_of(tokenizer), pieces(tokenizer, TEMPLATES[name], "the red cube")
    control = [piece for piece in plain if piece in special]
    for typed in special:
        found = pieces(tokenizer, TEMPLATES[name], f"the {typed}{typed} red {typed}")
        assert [piece for piece in found if piece in special] == control and control
        assert tokenizer.pre_tokenizer is None or "Custom" not in str(tokenizer.pre_tokenizer)
        spelled = tokenizer.decode(
            [id_of(tokenizer, str(piece)) for piece in found], skip_special_tokens=True
        )
        assert f"the {typed}{typed} red {typed}" in spelled


@pytest.mark.parametrize("name", TEMPLATES)
def test_they_are_the_tokens_of_a_tokenizer_that_has_no_special_ones(name: str) -> None:
    """Where the template has none either, that one can be asked."""
    tokenizer = PUBLISHED[name]
    for typed in special_of(tokenizer):
        text = f"what is {typed} on the{typed}?"
        tokenizer.encode_special_tokens = True
        expected = tokenizer.encode(f"USER: {text} ASSISTANT:", add_special_tokens=False).tokens
        tokenizer.encode_special_tokens = False
        assert pieces(tokenizer, "USER: {instruction} ASSISTANT:", text) == expected


TYPED = st.lists(
    st.sampled_from(
        ["the", " ", "red", "<", ">", "é", "日", "\n", "<s", "</s>", "<image>", "<|im_end|>", "[", "<unk>"]
    ),
    min_size=1,
    max_size=12,
).map("".join)


@given(st.sampled_from(sorted(TEMPLATES)), TYPED.filter(str.strip))
def test_the_control_tokens_are_the_templates_whatever_is_typed(name: str, text: str) -> None:
    tokenizer = PUBLISHED[name]
    special = special_of(tokenizer)
    typed, plain = (pieces(tokenizer, TEMPLATES[name], each) for each in (text, "the"))
    assert [piece for piece in typed if piece in special] == [piece for piece in plain if piece in special]


@given(
    st.sampled_from(sorted(TEMPLATES)),
    st.text(st.characters(exclude_characters="\0<", codec="utf-8"), min_size=1),
)
def test_other_text_is_as_the_tokenizer_has_it(name: str, text: str) -> None:
    tokenizer, prompt = PUBLISHED[name], TEMPLATES[name].replace("{instruction}", text.strip())
    assert (
        pieces(tokenizer, TEMPLATES[name], text) == tokenizer.encode(prompt, add_special_tokens=False).tokens
    )


def test_added_tokens_that_are_plain_text_stay_what_they_are() -> None:
    found = pieces(gemma(), "{instruction}", "a<loc0001>\n\nb<image>")
    assert found == ["a", "<loc0001>", "\n\n", "b", *"<image>"]


def test_the_token_that_a_template_follows_is_control_even_if_it_is_not_called_special() -> None:
    tokenizer = llama()
    tokenizer.add_tokens([AddedToken("<picture>", normalized=False)])
    found = pieces(tokenizer, "{instruction} ASSISTANT:", "the <picture>", after="<picture>")
    assert "<picture>" not in found and found[0] == "▁the"


def test_a_special_token_half_of_the_template_is_text() -> None:
    assert pieces(byte_level(), "<{instruction}<image>", "image>") == ["<", *"image>", "<image>"]


def test_what_the_normaliser_makes_of_it_counts() -> None:
    tokenizer = llama()
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.add_special_tokens([AddedToken("<go>", normalized=True, special=True)])
    assert pieces(tokenizer, "{instruction}<GO>", "a<GO>") == ["a", *"<go>", "<go>"]
    lower = pieces(llama(), "{instruction}", "A<IMAGE>", steps=(TextStep.LOWER_CASE,))
    assert lower == ["▁", "a", *"<image>"]


def words(*special: str, unknown: str | None = "[UNK]") -> Tokenizer:
    names = ("[UNK]", "<end>", "push")
    tokenizer = Tokenizer(
        models.WordLevel({name: index for index, name in enumerate(names)}, unknown or "no")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(list(special))
    return tokenizer


def test_a_tokenizer_of_words_does_not_know_the_word() -> None:
    """Its vocabulary has special tokens as words, which no typed word is."""
    assert pieces(words("<end>", "[UNK]"), "{instruction}", "push <end>") == ["push", "[UNK]", "[UNK]"]
    assert pieces(words("[UNK]"), "{instruction}", "push it") == ["push", "[UNK]"]


def test_a_character_is_text_even_if_a_special_token_is_spelled_so() -> None:
    """A tokenizer that pads with an exclamation mark knows no other."""
    tokenizer = byte_level()
    tokenizer.add_special_tokens(["!"])
    assert pieces(tokenizer, "{instruction}", "the cube!") == ["the", "Ġcube", "!"]


def test_what_the_library_throws_is_an_error_of_the_instruction() -> None:
    with pytest.raises(InstructionError, match="expected text that the tokenizer can split, found: "):
        pieces(words(unknown=None), "{instruction}", "pull")
