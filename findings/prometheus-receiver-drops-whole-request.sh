#!/bin/sh
# Prometheus 2.42.0 (Debian 12) as a remote-write receiver: one sample that is too old, and the whole request is lost.
#
# A good engineer would expect the other samples of the request to be stored, as VictoriaMetrics does, or an answer
# after which the sender tries again. The receiver rolls all of it back and answers 400, and senders take 400 as
# final. So one series of two senders with the same labels takes hundreds of others with it.
#
# Seen: a request with a (in order) and b (older than the last b): status 400, and a is not there
set -eu
dir=$(mktemp -d)
trap 'kill $pid 2>/dev/null; wait; rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download prometheus=2.42.0+ds-5+deb12u1
dpkg -x prometheus_*.deb .
echo '{}' >prometheus.yml
usr/bin/prometheus --config.file=prometheus.yml --storage.tsdb.path=data --web.listen-address=127.0.0.1:19092 \
  --web.enable-remote-write-receiver --log.level=error 2>log &
pid=$!
python3 - <<'PYTHON'
import json, struct, sys, time, urllib.error, urllib.parse, urllib.request

SERVER = "http://127.0.0.1:19092"


def varint(n):
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def write(*samples):
    """Name and time of each."""
    body = b"".join(
        field(1, field(1, field(1, b"__name__") + field(2, name)) + field(2, b"\x09" + struct.pack("<d", 1) + b"\x10" + varint(ms)))
        for name, ms in samples
    )
    snappy = varint(len(body)) + b"\xfc" + struct.pack("<I", len(body) - 1) + body
    request = urllib.request.Request(f"{SERVER}/api/v1/write", snappy, {"Content-Encoding": "snappy"})
    for _ in range(300):
        try:
            return urllib.request.urlopen(request).status
        except urllib.error.HTTPError as error:
            return error.code
        except urllib.error.URLError:
            time.sleep(0.1)


while True:
    try:
        if urllib.request.urlopen(f"{SERVER}/-/ready").status == 200:
            break
    except OSError:
        time.sleep(0.1)
now = 1000 * int(time.time())
first = write((b"b", now))
second = write((b"a", now), (b"b", now - 1000))
query = urllib.parse.urlencode({"query": "count(a)"})
rows = json.load(urllib.request.urlopen(f"{SERVER}/api/v1/query?{query}"))["data"]["result"]
print(first, second, rows)
sys.exit((first, second, rows) != (204, 400, []))
PYTHON
