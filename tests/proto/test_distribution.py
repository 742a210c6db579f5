from importlib.metadata import version

from saccade.proto.distribution import DISTRIBUTION, VERSION, install_hint


def test_what_is_installed_is_this_version() -> None:
    assert version(DISTRIBUTION) == VERSION


def test_a_hint_is_a_command_for_a_shell() -> None:
    assert install_hint("serve") == "pip install 'saccade-vla[serve]'"
    assert install_hint("export", "sim") == "pip install 'saccade-vla[export,sim]'"
