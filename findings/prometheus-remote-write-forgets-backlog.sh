#!/bin/sh
# Prometheus 2.42.0 (Debian 12): a restart while the remote store is away drops what was not sent, for good.
#
# A good engineer would expect it to be sent after the restart: the samples are in the write-ahead log, which remote
# write reads, and a store that is away without a restart gets everything. After a restart the reader skips all
# samples that are older than its own start. They stay in the sender's own data. No counter shows it: of the restarted
# process prometheus_remote_storage_samples_failed_total and _dropped_total are 0. kill -9 and SIGTERM do the same.
#
# Seen: 12 scrapes while the store is away, SIGTERM, start, the store comes back:
#       the sender has them all, the store has none of them, failed and dropped: 0 0
set -eu
dir=$(mktemp -d)
trap 'kill -9 $(cat "$dir"/*.pid) 2>/dev/null; rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download prometheus=2.42.0+ds-5+deb12u1
dpkg -x prometheus_*.deb .
cat >sender.yml <<'YAML'
global: {scrape_interval: 1s}
scrape_configs: [{job_name: x, static_configs: [{targets: ['127.0.0.1:19091']}]}]
remote_write: [{url: 'http://127.0.0.1:19092/api/v1/write'}]
YAML
echo '{}' >store.yml
start() {
  usr/bin/prometheus --config.file="$1.yml" --storage.tsdb.path="$1" --web.listen-address="127.0.0.1:$2" \
    --storage.remote.flush-deadline=1s --web.enable-remote-write-receiver --log.level=error &
  echo $! >"$1.pid"
}
count() { # of samples of up in the last minute, of a server
  python3 - "$1" "$2" <<'PYTHON'
import json, sys, urllib.parse, urllib.request
query = urllib.parse.urlencode({"query": sys.argv[2]})
try:
    rows = json.load(urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/api/v1/query?{query}"))["data"]["result"]
    print(rows[0]["value"][1] if rows else 0)
except OSError:
    print(-1)
PYTHON
}
start sender 19091
while [ "$(count 19091 'count_over_time(up[1m])')" -lt 12 ]; do sleep 0.5; done
kill $(cat sender.pid)
wait $(cat sender.pid) || true
stopped=$(date +%s)
start sender 19091
start store 19092
while [ "$(count 19092 'count_over_time(up[1m])')" -lt 5 ]; do sleep 0.5; done
here=$(count 19091 "count_over_time(up[1m] @ $stopped)")
there=$(count 19092 "count_over_time(up[1m] @ $stopped)")
failed=$(count 19091 'sum(prometheus_remote_storage_samples_failed_total)')
dropped=$(count 19091 'sum(prometheus_remote_storage_samples_dropped_total)')
echo "sender: $here store: $there failed: $failed dropped: $dropped"
[ "$here" -ge 12 ] && [ "$there" = 0 ] && [ "$failed" = 0 ] && [ "$dropped" = 0 ]
