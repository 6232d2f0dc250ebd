"""A Valkey (or Redis) for tests, on a socket in a temporary directory."""

import shutil
import subprocess
from pathlib import Path
from typing import Self

import redis
from support.mail_server import free_port


class RedisServer:
    """The server; it stores nothing on disk."""

    def __init__(self, directory: Path, password: str = "") -> None:
        self._directory = directory
        self.port = free_port()
        self.password = password
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/1"

    def start(self) -> None:
        program = shutil.which("valkey-server") or shutil.which("redis-server")
        if program is None:
            raise RuntimeError("the tests need Valkey or Redis: apt install valkey-server, or redis-server")
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._directory)]
        if self.password:
            options += ["--requirepass", self.password]
        self._process = subprocess.Popen([program, *options], stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        while b"Ready to accept connections" not in self._process.stdout.readline():
            assert self._process.poll() is None

    def stop(self) -> None:
        """Stop it; its counters are lost."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, db=1, password=self.password or None)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()
