"""The `python` of `forked_python.py`: have the script run in a fork, or become Python. It starts in a hundredth second.

So it imports no more than it must.
"""

import os
import sys
from _socket import AF_UNIX, SCM_RIGHTS, SOL_SOCKET, socket
from marshal import dumps

_SIGNAL = __import__("_signal")  # without the names of `signal`, which take half of the time
OWN = 1000  # no exit status: a fork would not be the same
ERRORS = ["-W", "error"]


def ask(folder: str, arguments: list[str]) -> int:
    """Return the exit status of a fork that ran these arguments of Python with this process's streams."""
    here = os.open(".", os.O_RDONLY)
    os.umask(umask := os.umask(0))
    request = dumps((arguments, umask, dict(os.environ)))
    server = socket(AF_UNIX)
    os.chdir(folder)  # the path of a socket may be no longer than 107 characters
    server.connect("torch" if any(name.endswith(("train.py", "evaluate.py")) for name in arguments) else "light")
    os.fchdir(here)
    streams = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2, here))
    server.sendmsg([len(request).to_bytes(4, sys.byteorder)], [(SOL_SOCKET, SCM_RIGHTS, streams)])
    server.sendall(request)
    if len(answer := server.recv(4)) < 4:
        raise SystemExit("the process that tests fork scripts from has ended")
    return int.from_bytes(answer, sys.byteorder, signed=True)


def main() -> None:
    """Run Python with the arguments of this process."""
    folder, *arguments = sys.argv[1:]
    script = arguments[2:] if arguments[:2] == ERRORS else arguments
    _SIGNAL.signal(_SIGNAL.SIGINT, _SIGNAL.SIG_DFL)
    is_script = len(script) > 0 and (script[0] == "-c" or script[0].endswith(".py"))
    if (status := ask(folder, arguments) if is_script else OWN) == OWN:
        os.execv(sys.executable, [sys.executable, *arguments])
    if status < 0:
        if -status != _SIGNAL.SIGKILL:
            _SIGNAL.signal(-status, _SIGNAL.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


if __name__ == "__main__":
    main()
