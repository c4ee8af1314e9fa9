#!/bin/sh
# VictoriaMetrics 1.79.5 (Debian 12): increase() of a counter that never moved is its value, if that is below 10.
#
# A good engineer would expect 0 for a counter that stays the same, as in Prometheus. VictoriaMetrics takes the
# value before a series' first sample for zero, if the first value is less than ten times (the first step + 1). So a
# counter at 9 has increased by 9, and one at 10 by nothing; 100, 105, 110 is an increase of 10, and 100, 110, 120 of 120.
#
# Seen: counters that begin a minute ago, with three samples: 9, 9, 9 and 10, 10, 10 and the two above:
#       increase(x[5m]) is 9, 0, 10 and 120
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
            return urllib.request.urlopen(SERVER + path, body).read()
        except urllib.error.URLError:
            time.sleep(0.1)
    sys.exit("it does not start")


now = int(time.time())
counters = {"nine": (9, 9, 9), "ten": (10, 10, 10), "slow": (100, 105, 110), "fast": (100, 110, 120)}
lines = [
    f'x{{of="{name}"}} {value} {1000 * (now - 60 + 30 * n)}\n'
    for name, values in counters.items()
    for n, value in enumerate(values)
]
ask("/api/v1/import/prometheus", "".join(lines).encode())
time.sleep(3)
query = urllib.parse.urlencode({"query": "increase(x[5m])", "time": now})
rows = json.loads(ask(f"/api/v1/query?{query}"))["data"]["result"]
found = {row["metric"]["of"]: float(row["value"][1]) for row in rows}
print(found)
sys.exit(found != {"nine": 9, "ten": 0, "slow": 10, "fast": 120})
PYTHON
