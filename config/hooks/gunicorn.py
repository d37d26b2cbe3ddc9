#!/usr/bin/env python3
"""A hook for `autoscale`: as many gunicorn processes as are wanted, on consecutive ports of this host.

    services:
      web:
        backends: ["127.0.0.1:5001", "127.0.0.1:5002", "127.0.0.1:5003"]
        health: { path: /api, every: 1s, initial: down }        # tells which of them run
        max_in_flight: 8                                        # the threads of one
        autoscale:
          min: 0
          max: 3
          hook: { command: [hooks/gunicorn.py, "5001", --threads, "8", "app:app"] }

The first argument is the first port, everything after it goes to gunicorn, which runs in the directory of Portway unless
there is a `--chdir`. Log files and process ids are kept in $GUNICORN_STATE, `portway-SERVICE` below the temporary
directory unless it is set. Before a process is stopped, Portway at $PORTWAY_ADMIN, http://127.0.0.1:9900 unless it is
set, is asked to send it no more requests; gunicorn then finishes what it has.

A hook is told how many there should be, not what to change. Doing it twice does no harm, and what fails is tried again.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

HOST = "127.0.0.1"
START_PATIENCE = 8.0  # below the ten seconds that Portway gives a hook
ON_THEIR_WAY = 0.2  # requests that were sent just before the drain


def main():
    message = json.load(sys.stdin)
    first, gunicorn = int(sys.argv[1]), sys.argv[2:]
    service, desired = message["service"], message["desired"]
    state = pathlib.Path(os.environ.get("GUNICORN_STATE") or pathlib.Path(tempfile.gettempdir(), f"portway-{service}"))
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    wanted = range(first, first + desired)
    stop(service, [path for path in sorted(state.glob("*.pid")) if int(path.stem) not in wanted])
    started = {port: start(port, gunicorn, state) for port in wanted if not is_running(state / f"{port}.pid")}
    for port, process in started.items():
        await_start(port, process, state)
    for port in wanted:
        ask_portway("undrain", service, port)


def start(port, gunicorn, state):
    pid_file, log = state / f"{port}.pid", open(state / f"{port}.log", "ab")
    pid_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "gunicorn", "--bind", f"{HOST}:{port}", *gunicorn]
    environment = {**os.environ, "PORT": str(port)}
    # A session and files of its own: it outlives this script, and what Portway may have to do to it.
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=environment
    )
    pid_file.write_text(str(process.pid))
    return process


def await_start(port, process, state):
    deadline = time.monotonic() + START_PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            (state / f"{port}.pid").unlink(missing_ok=True)
            lines = (state / f"{port}.log").read_text(errors="replace").split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
            sys.exit(f"gunicorn on port {port} ended: {last.strip()}")
        try:
            socket.create_connection((HOST, port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    sys.exit(f"gunicorn on port {port} does not answer")


def stop(service, pid_files):
    for path in pid_files:
        ask_portway("drain", service, int(path.stem))
    if pid_files:
        time.sleep(ON_THEIR_WAY)
    for path in pid_files:
        running, pid = is_running(path), int(path.read_text())
        path.unlink()  # first: the port may be wanted again while this one finishes what it has
        if running:
            os.kill(pid, signal.SIGTERM)


def is_running(pid_file):
    try:
        pid = int(pid_file.read_text())
        # Another program may have got the number of one that ended.
        return b"gunicorn" in pathlib.Path("/proc", str(pid), "cmdline").read_bytes()
    except (OSError, ValueError):
        return False


def ask_portway(what, service, port):
    admin = os.environ.get("PORTWAY_ADMIN", "http://127.0.0.1:9900")
    body = json.dumps({"service": service, "backend": f"{HOST}:{port}"}).encode()
    try:
        urllib.request.urlopen(f"{admin}/api/v1/{what}", data=body, timeout=2).close()
    except OSError as error:  # without it a request may meet a process that goes; nothing else is lost
        print(f"portway {what}: {error}")


if __name__ == "__main__":
    main()
