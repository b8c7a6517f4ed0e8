"""Ceph's radosgw on loopback: one monitor, one object store, one gateway, without authentication among them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.servers import processes
from tests.support.servers.s3 import S3Server

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
ACCESS = "testaccess"
SECRET = "testsecret0123456789"
_CLUSTER_ID = "7f6b6c1e-0000-4000-8000-000000000001"
_OSD_ID = "11111111-2222-4333-8444-555555555555"

# Every subsystem that logs; their levels cost a tenth of the speed, and gigabytes.
_SUBSYSTEMS = """
none lockdep context crush mds mds_balancer mds_locker mds_log mds_log_expire mds_migrator buffer timer filer striper
objecter rados rbd journaler objectcacher client osd optracker objclass filestore journal ms mon monc paxos tp auth
crypto finisher heartbeatmap perfcounter rgw asok throttle refs compressor bluestore bluefs bdev rocksdb mgr mgrc
"""

_CONF = """
[global]
fsid = {cluster}
mon host = [v2:127.0.0.1:{mon_port}/0,v1:127.0.0.1:{mon_port_v1}/0]
public network = 127.0.0.0/8
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
ms mon cluster mode = crc
ms mon service mode = crc
ms client mode = crc
ms crc data = false
run dir = {folder}/run
pid file = {folder}/$name.pid
admin socket = {folder}/run/$name.asok
log file = {folder}/$name.log
log to stderr = false
err to stderr = true
paxos propose interval = 0.02
paxos min wait = 0.01
mon tick interval = 1
mon osd report timeout = 3600
mon client hunt interval = 0.2
mon data = {folder}/mon
mon data avail warn = 1
mon data avail crit = 1
mon allow pool size one = true
mon allow pool delete = true
mon max pg per osd = 1000
objecter tick interval = 0.2
objecter timeout = 1
osd data = {folder}/osd
osd objectstore = bluestore
osd class load list = *
osd mclock skip benchmark = true
osd enable op tracker = false
osd fast shutdown = true
osd mon heartbeat interval = 5
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd max object name len = 2048
osd memory target = 1073741824
osd op num shards = 4
bluestore block size = 21474836480
bluestore block create = true
bluestore fsck on mount = false
heartbeat interval = 5
{quiet}
[client.rgw]
# Without tcp_nodelay small answers stall for 40 ms.
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw data = {folder}/rgw
rgw thread pool size = 64
rgw enable usage log = false
rgw enable ops log = false
rgw run sync thread = false
rgw enable lc threads = false
rgw enable quota threads = false
rgw exit timeout secs = 1
rgw dynamic resharding = false
"""


def present() -> bool:
    """Tell whether Ceph's packages are installed."""
    return processes.installed(*PROGRAMS)


@contextmanager
def running() -> Iterator[S3Server]:
    """Make a cluster in a temporary folder, and start it."""
    with processes.folder("ceph") as folder:
        port, mon_port = processes.free_port(), processes.free_port()
        _configure(folder, port, mon_port)
        server = S3Server("ceph", f"http://127.0.0.1:{port}", ACCESS, SECRET, "us-east-1")
        try:
            _start(server, folder, mon_port)
            yield server
        finally:
            server.stop()


def _start(server: S3Server, folder: Path, mon_port: int) -> None:
    conf: processes.Command = ["-c", folder / "ceph.conf"]
    monitors = f"[v2:127.0.0.1:{mon_port},v1:127.0.0.1:{mon_port + 1}]"
    new_map: processes.Command = [
        "monmaptool",
        "--create",
        "--fsid",
        _CLUSTER_ID,
        "--addv",
        "a",
        monitors,
        "--clobber",
        folder / "map",
    ]
    processes.run(new_map)
    processes.run(["ceph-mon", *conf, "-i", "a", "--mkfs", "--monmap", folder / "map"])
    server.processes["mon"] = _daemon("ceph-mon", [*conf, "-i", "a"], folder)
    processes.run(["ceph", *conf, "osd", "new", _OSD_ID])
    processes.run(["ceph-osd", *conf, "-i", "0", "--mkfs", "--osd-uuid", _OSD_ID])
    server.processes["osd"] = _daemon("ceph-osd", [*conf, "-i", "0"], folder)
    client: processes.Command = [*conf, "-n", "client.rgw"]
    gateway = _daemon("radosgw", client, folder)
    server.processes = {"rgw": gateway, **server.processes}
    gateway.wait_until(lambda: processes.answers(server.endpoint_url))
    keys = [f"--access-key={ACCESS}", f"--secret-key={SECRET}"]
    processes.run(["radosgw-admin", *client, "user", "create", "--uid=test", "--display-name=test", *keys])


def _daemon(name: str, options: processes.Command, folder: Path) -> processes.Process:
    # Killed in the end: the data goes anyway, and a clean end takes seconds.
    command: processes.Command = [name, *options, "-f"]
    return processes.start(name, command, folder / f"{name}.out", stop_signal=signal.SIGKILL)


def _configure(folder: Path, port: int, mon_port: int) -> None:
    for name in ("run", "mon", "osd", "rgw"):
        (folder / name).mkdir()
    text = _CONF.format(
        cluster=_CLUSTER_ID,
        folder=folder,
        port=port,
        mon_port=mon_port,
        mon_port_v1=mon_port + 1,
        quiet="\n".join(f"debug {name} = 0/0" for name in _SUBSYSTEMS.split()),
    )
    (folder / "ceph.conf").write_text(text)
