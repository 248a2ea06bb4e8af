"""Processes of the project's programs that start in milliseconds, for tests of what they do.

A program needs seconds to import torch and the rest. ``Process(words)`` and ``run(words)`` do what
subprocess.Popen and subprocess.run do with ``[python, *words]``, but the process is forked from a
server that has imported everything. So are the workers that such a process starts by
multiprocessing. Signals, exit statuses, files and output are those of any process. That programs
start by themselves, and what they import, is tested by processes that are not forked.
"""

import array
import atexit
import concurrent.futures.process
import gc
import json
import multiprocessing.forkserver
import multiprocessing.util
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
# What the programs and their workers import sooner or later.
PRELOADED = [
    *("hydra", "matplotlib.pyplot", "numpy", "pandas", "sklearn.datasets", "submitit", "timm"),
    *("torch", "torchvision", "tqdm", "transformers", "analysis.report", "sweeps.replicas"),
]
# What local workers need of it for a problem without data or network.
OF_WORKERS = ["torch._dynamo", "submitit", "sweeps.replicas", "tasks.theory"]
# The environment of who forks: threads, or a GPU that an import has asked for, do not survive it.
SERVERS = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
WORKER = "warm worker"  # the name of such a process, as Linux tells it
_server: dict[str, str] = {}
_beginning = threading.Lock()


class Process:
    """A forked process, with as much of subprocess.Popen's interface as tests use."""

    def __init__(self, words, cwd=ROOT, env=None, start_new_session=False):
        self.returncode, self._told = None, b""
        self._out, self._err = (tempfile.TemporaryFile("w+") for _ in range(2))  # noqa: SIM115
        self._server = socket.socket(socket.AF_UNIX)
        self._server.connect(address())
        request = {"words": [str(word) for word in words], "cwd": str(cwd)}
        request |= {"env": dict(os.environ if env is None else env), "session": start_new_session}
        with Path(os.devnull).open() as nothing:
            streams = array.array("i", [f.fileno() for f in (nothing, self._out, self._err)])
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)]
            self._server.sendmsg([b" "], ancillary)
        self._server.sendall(json.dumps(request).encode())
        self._server.shutdown(socket.SHUT_WR)
        self.pid = self._number()

    def poll(self):
        """Return the exit status, None if there is none yet."""
        with suppress(BlockingIOError):
            self._server.setblocking(False)
            return self.wait()
        return None

    def wait(self, timeout=None):
        """Wait for the end and return the exit status."""
        if self.returncode is None:
            if timeout is not None:
                self._server.settimeout(timeout)
            try:
                self.returncode = self._number()
            except TimeoutError as error:
                raise subprocess.TimeoutExpired(str(self.pid), timeout) from error
            finally:
                self._server.setblocking(True)
        return self.returncode

    def communicate(self, timeout=None):
        """Wait for the end and return what was written to stdout and stderr."""
        self.wait(timeout)
        return self._read(self._out), self._read(self._err)

    def send_signal(self, number):
        """Send a signal, if the process is there still."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        """End the process at once."""
        self.send_signal(signal.SIGKILL)

    def _read(self, file):
        file.seek(0)
        return file.read()

    def _number(self):
        """Read a line of the server: the process's number, and later its status."""
        while b"\n" not in self._told:
            more = self._server.recv(64)
            if not more:
                raise RuntimeError("the server of warm processes has died")
            self._told += more
        line, _, self._told = self._told.partition(b"\n")
        return int(line)


def run(words, check=False, **options):
    """Run a program to its end."""
    process = Process(words, **options)
    output, errors = process.communicate()
    done = subprocess.CompletedProcess(words, process.returncode, output, errors)
    if check:
        assert done.returncode == 0, errors
    return done


def is_worker(pid):
    """Say whether a process is a worker that a forked process has started."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip() == WORKER
    return False


def forks_workers():
    """Let a server that has imported torch fork what this process starts by `forkserver`."""
    multiprocessing.set_forkserver_preload(OF_WORKERS)
    with patch.dict(os.environ, SERVERS):
        multiprocessing.forkserver.ensure_running()


def address():
    """Return where the server of this process listens; begin it if there is none."""
    with _beginning:
        if "WARM_SERVER" in os.environ:  # that of the test which has started this process
            _server["address"] = os.environ["WARM_SERVER"]
        if "address" not in _server:
            folder = tempfile.TemporaryDirectory(prefix="warm")
            path = f"{folder.name}/socket"
            server = subprocess.Popen(
                [sys.executable, __file__, path], cwd=ROOT, env={**os.environ, **SERVERS},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
            assert server.stdout.readline() == b"listening\n", "no server of warm processes"

            def end():
                server.stdin.close()  # whereupon it ends
                server.wait()
                folder.cleanup()

            atexit.register(end)
            _server["address"] = path
    return _server["address"]


def preload():
    """Import all that is to be there in forked processes."""
    for name in PRELOADED:
        __import__(name)


def serve(path):
    """Fork processes as they are asked for; return in each of them what it is to be."""
    from runner.cores import wait_without_work

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    print("listening", flush=True)
    wait_without_work()
    preload()
    gc.collect()
    gc.freeze()
    wake, woken = os.pipe()
    for end in (wake, woken):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for those that have forked
    waiting = selectors.DefaultSelector()
    for place in (0, wake, listener):
        waiting.register(place, selectors.EVENT_READ)
    clients = {}
    while True:
        for key, _ in waiting.select():
            if key.fileobj == 0:  # the tests are over; what a failed one left must not train on
                for pid in clients:
                    os.kill(pid, signal.SIGKILL)
                os._exit(0)
            elif key.fileobj == wake:
                os.read(wake, 1000)
                _tell_of_ended(clients)
            else:
                client, _ = listener.accept()
                streams, request = _request(client)
                with _no_signals():
                    pid = os.fork()
                    if not pid:
                        waiting.close()
                        _become_another(streams)
                        return request
                for stream in streams:
                    os.close(stream)
                clients[pid] = client
                client.sendall(b"%d\n" % pid)


def _tell_of_ended(clients):
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            client = clients.pop(pid)
            with suppress(OSError):
                client.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
            client.close()


def _request(client):
    _, ancillary, *_ = client.recvmsg(1, socket.CMSG_SPACE(3 * array.array("i").itemsize))
    streams = array.array("i", ancillary[0][2])
    text = b""
    while part := client.recv(1 << 16):
        text += part
    return list(streams), json.loads(text)


class _no_signals:  # noqa: N801
    """Keeps signals waiting, so that none meets a fork with handlers that are not its own."""

    def __enter__(self):
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    def __exit__(self, *_):
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)


def _become_another(streams=(0, 1, 2), kept=()):
    """Leave behind what a new program would not have: open files, handlers of signals."""
    for place, stream in enumerate(streams):
        if place != stream:
            os.dup2(stream, place)
    low = 3
    for high in [*sorted(kept), 1 << 20]:
        os.closerange(low, high)
        low = high + 1
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def fork_instead(_, words, kept):
    """Do what multiprocessing.util.spawnv_passfds does, by a fork: run ``python ... -c code``."""
    words = [os.fsdecode(word) for word in words]
    code, *arguments = words[words.index("-c") + 1 :]
    with _no_signals():
        pid = os.fork()
        if not pid:
            _become_another(kept=kept)
    if not pid:
        concurrent.futures.process._threads_wakeups.clear()  # of threads that are not here
        if "spawn_main" in code:
            with suppress(OSError):
                Path("/proc/self/comm").write_text(WORKER)
        sys.argv = ["-c", *arguments]
        _run_and_exit(lambda: exec(code, {"__name__": "__main__"}))
    return pid


def _run_and_exit(program):
    """Do what Python does with a program, but for taking all modules apart at the end: seconds."""
    status = 0
    try:
        program()
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def main():
    """Serve; and in a forked process run the program that was asked for."""
    sys.path.insert(0, str(ROOT))
    # Of threads, such as those that wait for workers; forked processes do not touch what is theirs.
    warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
    request = serve(sys.argv[1])
    if request["session"]:
        os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    multiprocessing.util.spawnv_passfds = fork_instead
    sys.path[0] = request["cwd"]
    if request["words"][0] == "-m":
        _, module, *sys.argv[1:] = request["words"]
        _run_and_exit(lambda: runpy.run_module(module, run_name="__main__", alter_sys=True))
    elif request["words"][0] == "-c":
        _, code, *arguments = request["words"]
        sys.argv = ["-c", *arguments]
        _run_and_exit(lambda: exec(code, {"__name__": "__main__"}))
    else:
        sys.argv = request["words"]
        sys.path[0] = str(Path(sys.argv[0]).absolute().parent)
        _run_and_exit(lambda: runpy.run_path(sys.argv[0], run_name="__main__"))


if __name__ == "__main__":
    main()
