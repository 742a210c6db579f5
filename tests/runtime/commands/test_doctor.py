import json
import socket
from pathlib import Path

from click.testing import CliRunner, Result

from saccade.proto.distribution import VERSION
from saccade.runtime.commands.main import main
from saccade.runtime.engines.registry import ENGINES, why_not


def saccade(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_help_has_an_example() -> None:
    assert "Example:\n      saccade doctor ./saccade-mini" in saccade("doctor", "--help").output


def test_it_finds_a_healthy_machine(tiny: Path) -> None:
    result = saccade("doctor", tiny, "--bind", "127.0.0.1:0", "--json")
    assert result.exit_code == 0, result.output
    findings = {finding["subject"]: finding for finding in json.loads(result.output)}
    assert findings["bundle"]["detail"] == "verified"
    for engine in (name for name in ENGINES if why_not(name) is None):
        assert "every profile runs: full" in findings[f"engine {engine}"]["detail"]
    assert findings["saccade"]["detail"] == VERSION


def test_it_finds_what_is_wrong(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = saccade("doctor", tmp_path, "--bind", f"127.0.0.1:{taken.getsockname()[1]}")
    assert result.exit_code == 1
    assert "FAIL address: expected to bind" in result.output
    assert "FAIL bundle: expected a bundle with manifest.json" in result.output
