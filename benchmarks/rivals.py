"""What nginx does in the contests: it is the storage behind everybody, and in front of it the rival."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Mapping

SECRET = "benchmark"
LIFETIME = 6 * 3600  # seconds
BUCKET = "media"

# As fast as an S3 service can be, so that whoever reads from it is what is measured: a folder as /<bucket>/<key>, a
# presigned query is not looked at. Every name under copies/<name>/ is the one object, so that there are any number of
# objects to miss; those under cold/ are written down when they are asked for.
STORAGE = """
  sendfile on;
  tcp_nodelay on;
  keepalive_requests 1000000000;
  log_format fetched '$request_uri $status $body_bytes_sent $http_range';
  server {
    listen 127.0.0.1:@port@ backlog=4096;
    root @files@;
    location = /media { return 200 '<ListBucketResult></ListBucketResult>'; }
@copies@
  }
"""
_COPIES = """
    location /media/copies/{name}/ {{ rewrite ^ /media/{key} break; }}
    location /media/cold/{name}/ {{ access_log fetched.log fetched; rewrite ^ /media/{key} break; }}
"""

# What an administrator would write. tcp_nopush waits for more with a cached small body: 40 ms, so it is off there.
FRONT = """
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  proxy_cache_path cache keys_zone=media:10m max_size=2g inactive=1d;
  upstream storage { server @storage@; keepalive 256; keepalive_requests 1000000000; }
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_buffers 16 64k;
  proxy_max_temp_file_size 0;
  secure_link_md5 "$secure_link_expires$uri @secret@";
  server {
    listen 127.0.0.1:@port@ backlog=4096;
    location /static/ { alias @files@/media/; }
    location /plain/ { proxy_pass http://storage/media/; }
    location /passed/ {
      secure_link $arg_md5,$arg_expires;
      if ($secure_link = "") { return 403; }
      if ($secure_link = "0") { return 410; }
      proxy_pass http://storage/media/;
    }
    location /cached/ {
      secure_link $arg_md5,$arg_expires;
      if ($secure_link = "") { return 403; }
      if ($secure_link = "0") { return 410; }
      tcp_nopush off;
      proxy_cache media;
      proxy_cache_key $uri;
      proxy_cache_valid 200 1d;
      proxy_pass http://storage/media/;
    }
  }
"""


def storage(keys: Mapping[str, str]) -> str:
    """Write the configuration of the storage; `keys` are the objects of which there are copies."""
    copies = "".join(_COPIES.format(name=name, key=key) for name, key in keys.items())
    return STORAGE.replace("@copies@", copies)


def front(storage_port: int) -> str:
    return FRONT.replace("@storage@", f"127.0.0.1:{storage_port}").replace("@secret@", SECRET)


def linked(url: str, path: str) -> str:
    """Sign a path as `secure_link` wants it."""
    expires = int(time.time()) + LIFETIME
    digest = hashlib.md5(f"{expires}{path} {SECRET}".encode(), usedforsecurity=False).digest()
    return f"{url}{path}?md5={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}&expires={expires}"
