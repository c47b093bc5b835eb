"""A release goes to an S3 server and comes back; needs requirements/s3.txt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pellucid.release.verify import verify
from pellucid.store import layout, sealed
from tests.conftest import lacks, pellucid
from tests.places.test_places import contents, unique

pytestmark = pytest.mark.slow
BUCKET = "s3://releases"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server on this machine, that fsspec finds by the environment."""
    try:
        import boto3
        import s3fs  # noqa: F401
        from moto.server import ThreadedMotoServer
    except ImportError:
        lacks("needs requirements/s3.txt")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    for name, value in (
        ("AWS_ENDPOINT_URL", url),
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("FSSPEC_S3_ENDPOINT_URL", url),
    ):
        monkeypatch.setenv(name, value)
    boto3.client("s3", endpoint_url=url).create_bucket(Bucket="releases")
    yield url
    server.stop()


def listed(url: str, name: str) -> set[str]:
    import s3fs

    system = s3fs.S3FileSystem(endpoint_url=url, skip_instance_cache=True, use_listings_cache=False)
    return {*system.find(f"releases/{name}")}


def test_there_and_back(finished: Path, tmp_path: Path, s3: str) -> None:
    sent = pellucid("publish", finished, "--to", f"{BUCKET}/run")
    assert f"{unique(finished) / 1e6:,.1f} MB" in sent.stdout
    assert len(listed(s3, "run")) == len(sealed.read(finished).files) + 1
    again = pellucid("publish", finished, "--to", f"{BUCKET}/run")
    assert "sent 0 files, 0.0 MB" in again.stdout
    pellucid("download", f"{BUCKET}/run", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(finished)
    assert verify(tmp_path / "back", lambda what: None).ok
    assert "step 3" in pellucid("show", f"{BUCKET}/run", "step", "3").stdout


def test_a_process_that_was_killed_while_it_sent_goes_on(
    finished: Path, tmp_path: Path, s3: str
) -> None:
    words = [sys.executable, "-m", "pellucid", "publish", str(finished), "--to", f"{BUCKET}/killed"]
    process = subprocess.Popen(words, env=dict(os.environ), stdout=subprocess.DEVNULL)
    while len(listed(s3, "killed")) < 20 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = listed(s3, "killed")
    assert kept and f"releases/killed/{layout.MANIFEST}" not in kept
    pellucid(*words[3:])
    pellucid("download", f"{BUCKET}/killed", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(finished)
