import click
from click.testing import CliRunner

from saccade.runtime.commands.real_time_options import real_time_options
from saccade.runtime.real_time import RealTime


@click.command()
@click.argument("name")
@real_time_options
def shown(name: str, real_time: RealTime) -> None:
    """Print what was asked for."""
    click.echo(f"{name} {real_time}")


def test_the_options_become_one_argument() -> None:
    runner = CliRunner()
    assert runner.invoke(shown, ["a"]).output == f"a {RealTime()}\n"
    options = ["--realtime-priority", "20", "--lock-memory", "--cores", "2", "--cores", "3"]
    assert runner.invoke(shown, ["b", *options]).output == f"b {RealTime(20, True, (2, 3))}\n"
    assert runner.invoke(shown, ["c", "--realtime-priority", "100"]).exit_code == 2
