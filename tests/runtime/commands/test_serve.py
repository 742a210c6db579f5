import json
import re
import signal
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from saccade.runtime.commands.main import main


def saccade(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_help_has_an_example_and_says_what_the_seed_is_of() -> None:
    result = saccade("serve", "--help")
    assert result.exit_code == 0
    assert "Example:\n      saccade serve ./saccade-mini" in result.output
    shown = " ".join(result.output.split())
    assert "Seed of the noise that flow-matching models (π0, SmolVLA) draw actions from" in shown


def test_it_refuses_the_network_unless_asked(tiny: Path) -> None:
    result = saccade("serve", tiny, "--bind", "0.0.0.0:0")
    assert result.exit_code == 1
    assert "--insecure-bind" in result.output
    assert result.output.endswith("[serve.insecure_bind]\n")


def test_a_duration_is_a_finite_number(tiny: Path) -> None:
    result = saccade("serve", tiny, "--lease-s", "inf")
    assert result.exit_code == 2
    assert "expected a finite number, found inf" in result.output


def test_a_deadline_needs_profiles_to_choose_from(tiny: Path) -> None:
    result = saccade("serve", tiny, "--bind", "127.0.0.1:0", "--deadline-ms", 40)
    assert result.exit_code == 1
    assert "found a bundle without a closed-loop receipt: name them with --deadline-profile" in result.output
    result = saccade("serve", tiny, "--deadline-profile", "keep50")
    assert result.exit_code == 2
    assert "expected --deadline-ms with --deadline-profile" in result.output


def test_limits_that_cannot_be_read_or_widen_are_refused_with_a_code(tiny: Path, tmp_path: Path) -> None:
    cell = tmp_path / "cell.json"
    for text, message in (
        ('{"speed": [1, 1]}', "expected limits, as"),
        ('{"velocity": [9, null]}', "an operator narrows limits and never widens them"),
        ('{"velocity": [1]}', "expected one for each of ['dx', 'gripper']"),
    ):
        cell.write_text(text)
        result = saccade("serve", tiny, "--bind", "127.0.0.1:0", "--limits", cell)
        assert result.exit_code == 1 and message in " ".join(result.output.split())
        assert result.output.endswith("[input.limits]\n")


def test_it_says_where_it_listens_and_ends_at_a_signal(tiny: Path) -> None:
    command = [sys.executable, "-c", "from saccade.runtime.commands.main import main; main()", "serve"]
    for words, pattern in (([], r"serving .* on 127\.0\.0\.1:\d+ \(gRPC\)\n"), (["--json"], r"\{.*\}\n")):
        daemon = subprocess.Popen(
            [*command, str(tiny), "--bind", "127.0.0.1:0", *words], stdout=subprocess.PIPE, text=True
        )
        assert daemon.stdout is not None
        line = daemon.stdout.readline()
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(timeout=60) == 0
        daemon.stdout.close()
        assert re.fullmatch(pattern, line)
    assert json.loads(line)["ready"] is True
