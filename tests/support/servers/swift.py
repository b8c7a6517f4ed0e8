"""OpenStack Swift with its S3 API, on loopback: proxy, account, container and object server, one replica."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.servers import processes
from tests.support.servers.s3 import S3Server

PROGRAMS = processes.ROOT / ".servers/swift/bin"
SECRET = "testsecret0123456789"
_STORES = ("account", "container", "object")

_CLUSTER = """
[swift-hash]
swift_hash_path_suffix = loopback
swift_hash_path_prefix = test
[storage-policy:0]
name = default
default = yes
"""

_STORE = """
[DEFAULT]
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
disable_fallocate = true
fallocate_reserve = 0
log_level = WARNING
recon_cache_path = {folder}/recon
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""

_PROXY = """
[DEFAULT]
swift_dir = {folder}
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
log_level = WARNING
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck listing_formats bulk s3api tempauth copy slo dlo {last}
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
s3_acl = false
dns_compliant_bucket_names = true
allow_multipart_uploads = true
min_segment_size = 5242880
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {secret} .admin
[filter:slo]
use = egg:swift#slo
max_manifest_segments = 10000
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_versioned_writes = true
allow_object_versioning = true
"""
_PLAIN_FILTERS = ("catch_errors", "gatekeeper", "healthcheck", "listing_formats", "bulk", "copy", "dlo", "symlink")


@contextmanager
def running() -> Iterator[S3Server]:
    """Start the four servers in a temporary folder."""
    with processes.folder("swift") as folder:
        ports = {kind: processes.free_port() for kind in (*_STORES, "proxy")}
        _configure(folder, ports)
        url = f"http://127.0.0.1:{ports['proxy']}"
        server = S3Server("swift", url, "test:tester", SECRET, "us-east-1")
        try:
            for kind in ("proxy", *_STORES):
                command: processes.Command = [PROGRAMS / f"swift-{kind}-server", folder / f"{kind}.conf", "-v"]
                server.processes[kind] = processes.start(f"swift {kind}", command, folder / f"{kind}.log")
            for kind, process in server.processes.items():
                health = f"http://127.0.0.1:{ports[kind]}/healthcheck"
                process.wait_until(lambda url=health: processes.answers(url))  # type: ignore[misc]  # bound per round
            yield server
        finally:
            server.stop()


def _configure(folder: Path, ports: dict[str, int]) -> None:
    (folder / "devices/d1").mkdir(parents=True)
    (folder / "recon").mkdir()
    (folder / "swift.conf").write_text(_CLUSTER)
    user = getpass.getuser()
    for kind in _STORES:
        text = _STORE.format(folder=folder, port=ports[kind], kind=kind, user=user)
        (folder / f"{kind}.conf").write_text(text)
        ring = [PROGRAMS / "swift-ring-builder", folder / f"{kind}.builder"]
        processes.run([*ring, "create", "2", "1", "0"])
        processes.run([*ring, "add", f"r1z1-127.0.0.1:{ports[kind]}/d1", "1"])
        processes.run([*ring, "rebalance"])
    text = _PROXY.format(
        folder=folder, port=ports["proxy"], user=user, secret=SECRET, last="versioned_writes symlink proxy-server"
    )
    filters = "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in _PLAIN_FILTERS)
    (folder / "proxy.conf").write_text(text + filters)
