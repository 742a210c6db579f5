"""What the operating system refuses is said with the file, the reason and a remedy."""

from pathlib import Path

import pytest

from saccade.proto.errors import FileError
from saccade.proto.file_errors import file_error, naming, read_text


def test_the_file_is_named_even_where_the_system_does_not_name_it(tmp_path: Path) -> None:
    with pytest.raises(
        FileError, match=f"at {tmp_path}, found: Is a directory; name a file, not a folder"
    ) as caught:
        read_text(tmp_path)
    assert isinstance(caught.value.__cause__, OSError)
    with (
        pytest.raises(FileError, match="at weights, found: Input/output error; is the disk"),
        naming(Path("weights")),
    ):
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(2, "No such file", "here"),
            "expected a usable file or folder at here, found: No such file; check",
        ),
        (
            OSError(2, "No such file", b"here"),
            "expected a usable file or folder at here, found: No such file; check",
        ),
        (OSError(28, "No space left"), "expected to be let read and write, found: No space left; make room"),
        (OSError("odd"), "expected to be let read and write, found: odd; see the system's log"),
        (OSError(), "expected to be let read and write, found: OSError; see the system's log"),
    ],
)
def test_an_error_may_know_little(error: OSError, message: str) -> None:
    assert file_error(error).message.startswith(message)
