#!/bin/sh
# VictoriaMetrics 1.79.5 (Debian 12): a number that is not whole keeps about twelve significant digits.
#
# A good engineer would expect the double that was written, as Prometheus gives it back. VictoriaMetrics stores
# decimal numbers, and cuts off (not: rounds) what comes after about twelve digits. Two stores that got the same
# samples so give different averages and rates, and == of what was recorded and what is computed anew fails.
#
# Seen: written 0.6666666666666666, 1.3454833333333334, 21.700000000000003, 9007199254740991
#       read    0.666666666666,     1.345483333333,     21.7,               9007199254740991
set -eu
dir=$(mktemp -d)
trap 'kill $pid 2>/dev/null; wait; rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download victoria-metrics=1.79.5+ds1-2+b5
dpkg -x victoria-metrics_*.deb .
usr/bin/victoria-metrics -storageDataPath=data -httpListenAddr=127.0.0.1:18428 -loggerLevel=ERROR &
pid=$!
python3 - <<'PYTHON'
import json, sys, time, urllib.error, urllib.parse, urllib.request

SERVER = "http://127.0.0.1:18428"
WRITTEN = ["0.6666666666666666", "1.3454833333333334", "21.700000000000003", "9007199254740991"]
READ = [0.666666666666, 1.345483333333, 21.7, 9007199254740991]


def ask(path, body=None):
    for _ in range(300):
        try:
            return urllib.request.urlopen(SERVER + path, body).read()
        except urllib.error.URLError:
            time.sleep(0.1)
    sys.exit("it does not start")


now = 1000 * int(time.time())
lines = [f'x{{n="{n}"}} {value} {now}\n' for n, value in enumerate(WRITTEN)]
ask("/api/v1/import/prometheus", "".join(lines).encode())
time.sleep(3)
rows = map(json.loads, ask("/api/v1/export?match[]=x").splitlines())
found = {int(row["metric"]["n"]): row["values"][0] for row in rows}
found = [found[n] for n in sorted(found)]
print(found)
sys.exit(found != READ)
PYTHON
