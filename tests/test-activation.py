#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The server takes the sockets that systemd opened, TCP and Unix, and none of its own configuration; TLS as configured."""
import os
import socket
import subprocess
import sys

import nbd

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lab import Lab, LABBOOT, until  # noqa: E402

# As systemd starts a service: sockets from descriptor 3 on, and a pid that they are for.
EXEC = 'LISTEN_PID=$$ exec "$@"'


def serve_activated(lab, sockets):
    fds = [s.fileno() for s in sockets]
    moved = [os.dup(fd) for fd in fds]

    def place():
        high = [os.dup(fd) for fd in moved]
        for n, fd in enumerate(high):
            os.dup2(fd, 3 + n, inheritable=True)

    env = dict(os.environ, LISTEN_FDS=str(len(fds)))
    with open(lab.log_path, "ab") as log:
        lab.server = subprocess.Popen(["/bin/sh", "-c", EXEC, "sh", LABBOOT, "--config", lab.conf, "serve"], env=env,
                                      stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=place,
                                      close_fds=False)
    for fd in moved:
        os.close(fd)


def exports_by(connect):
    h = nbd.NBD()
    h.set_opt_mode(True)
    connect(h)
    names = []
    h.opt_list(lambda name, description: names.append(name))
    h.opt_abort()
    return names


def with_keys(h):
    h.set_tls(nbd.TLS_REQUIRE)
    h.set_tls_psk_file(KEYS)
    h.set_tls_username("lab")


with Lab() as lab:
    lab.machine(1)
    KEYS = lab.file("keys.psk", 0)
    with open(KEYS, "w", encoding="ascii") as f:
        f.write(f"lab:{32 * 'ab'}\n")
    lab.settings["access"] = {"tls": "require", "tls-credentials": KEYS}
    lab.write_conf()
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
        tcp.bind(("127.0.0.1", 0))
        port = tcp.getsockname()[1]
        path = f"{lab.dir}/activated.sock"
        unix.bind(path)
        tcp.listen()
        unix.listen()
        serve_activated(lab, (tcp, unix))
    until("the server answers", lambda: lab.alive() and os.path.exists(f"{lab.dir}/run/server.lock"))
    exports_by(lambda h: h.connect_unix(path))
    exports_by(lambda h: (with_keys(h), h.connect_tcp("127.0.0.1", str(port))))
    try:
        exports_by(lambda h: h.connect_tcp("127.0.0.1", str(port)))
        raise AssertionError("TLS is not required")
    except nbd.Error:
        pass
    assert not os.path.exists(lab.socket), "it opened the configured socket too"
    with socket.socket() as s:
        assert s.connect_ex(("127.0.0.1", lab.port)) != 0, "it opened the configured port too"
    assert lab.stop() == 0
