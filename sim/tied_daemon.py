"""``python -m saccade.sim.tied_daemon serve ...``: a daemon that ends when whoever holds its standard input has gone.

A worker that is killed closes nothing in order; its end of the pipe closes all the same.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from saccade.runtime.commands.main import main

_STDIN = 0


def _end_with_parent() -> None:
    # Not sys.stdin, whose lock would be held at exit.
    while os.read(_STDIN, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    main(sys.argv[1:], prog_name="saccade")
