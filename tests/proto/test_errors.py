import inspect
import re

from saccade.proto import errors

CLASSES = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.SaccadeError)
]


def test_codes_are_unique_and_follow_the_tree() -> None:
    assert len({kind.code for kind in CLASSES}) == len(CLASSES)
    assert all(re.fullmatch(r"[a-z_]+(\.[a-z_]+)?", kind.code) for kind in CLASSES)


def test_the_outline_names_every_class_at_its_depth() -> None:
    lines = re.findall(r"^    ([│├└─ ]*)(\w+Error)\b", errors.__doc__ or "", re.MULTILINE)
    found = {name: len(indent) // 4 for indent, name in lines}
    assert found == {kind.__name__: len(kind.__mro__) - len(errors.SaccadeError.__mro__) for kind in CLASSES}


def test_every_class_is_rebuilt_from_its_code() -> None:
    assert all(type(errors.error_from_code(kind.code, "m")) is kind for kind in CLASSES)


def test_an_unknown_code_becomes_its_nearest_ancestor() -> None:
    assert type(errors.error_from_code("session.from_the_future", "m")) is errors.SessionError
    assert type(errors.error_from_code("unheard", "m")) is errors.SaccadeError
    assert errors.error_from_code("", "m").message == "m"
