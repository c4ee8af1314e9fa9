#!/bin/sh
# VictoriaMetrics 1.79.5 (Debian 12): kill -9 loses samples that were acknowledged and could be queried.
#
# A good engineer would expect that a process's death, unlike a power cut, loses nothing that was answered with 204:
# a write() to a file is enough, and Prometheus's own receiver does that. VictoriaMetrics has no log. New samples are in
# its memory for five seconds and more, and the sender of remote write never sends again what was acknowledged.
#
# Seen: a sample imported (204), found by a query two seconds later, kill -9, start: not found
set -eu
dir=$(mktemp -d)
trap 'kill -9 $pid 2>/dev/null; rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download victoria-metrics=1.79.5+ds1-2+b5
dpkg -x victoria-metrics_*.deb .
cat >ask.py <<'PYTHON'
import sys, time, urllib.error, urllib.request


def ask(path, body=None):
    for _ in range(300):
        try:
            return urllib.request.urlopen("http://127.0.0.1:18428" + path, body)
        except urllib.error.URLError:
            time.sleep(0.1)
    sys.exit("it does not start")


if sys.argv[1] == "write":
    assert ask("/api/v1/import/prometheus", b"x 1\n").status == 204
time.sleep(2.5)
print("found" if ask("/api/v1/export?match[]=x").read() else "not found")
PYTHON
start() {
  usr/bin/victoria-metrics -storageDataPath=data -httpListenAddr=127.0.0.1:18428 -loggerLevel=ERROR &
  pid=$!
}
start
before=$(python3 ask.py write)
kill -9 $pid
start
after=$(python3 ask.py read)
echo "before: $before, after: $after"
[ "$before" = found ] && [ "$after" = "not found" ]
