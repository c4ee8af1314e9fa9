#!/bin/sh
# VictoriaMetrics 1.79.5 (Debian 12): a sample with the value NaN is taken (204) and not stored.
#
# A good engineer would expect a series with the value NaN, as in Prometheus: exporters write NaN for a ratio or a
# quantile of nothing. In VictoriaMetrics there is no series: absent(x) is 1, count(x) is empty. Infinity is stored.
#
# Seen: x NaN and y +Inf imported, both 204: series found: y only
set -eu
dir=$(mktemp -d)
trap 'kill $pid 2>/dev/null; wait; rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download victoria-metrics=1.79.5+ds1-2+b5
dpkg -x victoria-metrics_*.deb .
usr/bin/victoria-metrics -storageDataPath=data -httpListenAddr=127.0.0.1:18428 -search.latencyOffset=0s \
  -loggerLevel=ERROR &
pid=$!
python3 - <<'PYTHON'
import json, sys, time, urllib.error, urllib.parse, urllib.request

SERVER = "http://127.0.0.1:18428"


def ask(path, body=None):
    for _ in range(300):
        try:
            return urllib.request.urlopen(SERVER + path, body)
        except urllib.error.URLError:
            time.sleep(0.1)
    sys.exit("it does not start")


now = int(time.time())
status = ask("/api/v1/import/prometheus", f"x NaN {now}000\ny +Inf {now}000\n".encode()).status
time.sleep(3)
query = urllib.parse.urlencode({"query": '{__name__=~"x|y"}', "time": now})
rows = json.load(ask(f"/api/v1/query?{query}"))["data"]["result"]
found = [(row["metric"]["__name__"], row["value"][1]) for row in rows]
print(status, found)
sys.exit((status, found) != (204, [("y", "+Inf")]))
PYTHON
