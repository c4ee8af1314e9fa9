#!/bin/sh
# textual 8.2.8 (PyPI): with COLUMNS and LINES in the environment, an app keeps that size for ever.
#
# A good engineer would expect the size of the terminal, as curses and most full-screen programs take it after
# a SIGWINCH. The driver asks shutil.get_terminal_size(), which believes the two variables and asks the terminal
# only without them; so does every look after a resize.
#
# Seen: terminal of 160x50, COLUMNS=80 LINES=24:   start 80x24, after a resize to 100x40: 80x24
#       the same without the variables:            start 160x50, after the resize: 100x40
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check textual==8.2.8
cat >"$dir/app.py" <<'APP'
import os
from textual.app import App


class Sizes(App):
    def tell(self):
        os.write(int(os.environ["TELL"]), b"%dx%d\n" % self.size)

    def on_mount(self):
        self.set_interval(0.2, self.tell)


Sizes().run()
APP
cat >"$dir/drive.py" <<'DRIVE'
import fcntl, os, pty, signal, struct, sys, termios, threading

TERMINAL, RESIZED = (160, 50), (100, 40)


def resize(terminal, size):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))


def sizes(variables):
    """What the app believes its size to be: at first, and after a resize."""
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    pid, terminal = pty.fork()
    if not pid:
        resize(0, TERMINAL)
        environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
        environment |= variables | {"TELL": str(writer), "TERM": "xterm-256color"}
        os.execve(sys.executable, [sys.executable, sys.argv[1]], environment)
    os.close(writer)
    threading.Thread(target=drain, args=(terminal,), daemon=True).start()
    told = os.fdopen(reader)
    first = [told.readline().strip() for _ in range(3)][-1]
    resize(terminal, RESIZED)
    later = [told.readline().strip() for _ in range(15)][-1]
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return first, later


def drain(terminal):
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:
        pass


frozen = sizes({"COLUMNS": "80", "LINES": "24"})
free = sizes({})
print("with COLUMNS and LINES:", *frozen)
print("without:", *free)
sys.exit(not (frozen == ("80x24", "80x24") and free == ("160x50", "100x40")))
DRIVE
"$dir/venv/bin/python" "$dir/drive.py" "$dir/app.py"
