"""Starts, restarts and stops the measured servers, and knows the processes of each."""

import os
import shlex
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
BENCH = HERE.parent / ".bench"  # everything that the benchmarks write


class Server:
    """A command that serves on a port, with an empty folder, until `stop`."""

    def __init__(self, name: str, port: int, command: str, **environment: str) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{port}"
        self._command = command.format(port=port, folder=BENCH / name.replace(" ", "-"))
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pids(self) -> str:
        """Its processes, in the form of the load generator's --pids."""
        return f"{self.name.partition(' ')[0]}={self._process.pid}" if self._process else ""

    def start(self) -> float:
        """Start it; the seconds until it answers."""
        folder = BENCH / self.name.replace(" ", "-")
        subprocess.run(["rm", "-rf", folder], check=True)
        folder.mkdir(parents=True)
        began = time.perf_counter()
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                shlex.split(self._command),
                cwd=HERE,
                env=os.environ | {"NODE_PATH": str(BENCH / "node_modules")} | self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while True:
            try:
                urllib.request.urlopen(self.url + "/healthz", timeout=5).close()
                return time.perf_counter() - began
            except urllib.error.HTTPError:
                return time.perf_counter() - began
            except OSError:
                if self._process.poll() is not None:
                    raise SystemExit(f"{self.name} ended:\n{(folder / 'log').read_text()}") from None
                time.sleep(0.01)

    def restart(self) -> None:
        self.stop()
        self.start()

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)
            self._process = None


class Original:
    """The original design behind one of its two web servers, which share database, broker and workers."""

    def __init__(self, web: str, port: int) -> None:
        self.name = f"original, {web}"
        self.url = f"http://127.0.0.1:{port}"
        self._web = web

    @property
    def pids(self) -> str:
        lines = (BENCH / "original/run/pids").read_text().split()
        return ",".join(line for line in lines if line.partition("=")[0] in ("postgres", "redis", "celery", self._web))

    @staticmethod
    def start() -> float:
        """Start it with both web servers; the seconds until all parts are ready."""
        began = time.perf_counter()
        original("up.sh", "uvicorn", "daphne")
        return time.perf_counter() - began

    def restart(self) -> None:
        original("restart.sh", self._web)

    @staticmethod
    def output(kind: str) -> None:
        """Set what its workers render, as `webp:80:4` (its default) or `jpeg:78`."""
        original("restart.sh", "celery", SEED_OUTPUT=kind)

    @staticmethod
    def stop() -> None:
        original("down.sh")


def original(script: str, *arguments: str, **environment: str) -> None:
    command = [HERE / "peers/original" / script, BENCH / "original", *arguments]
    subprocess.run(command, check=True, env=os.environ | environment, stdout=subprocess.DEVNULL)
