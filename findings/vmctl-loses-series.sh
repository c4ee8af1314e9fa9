#!/bin/sh
# vmctl 1.79.5 (Debian 12, package victoria-metrics): the same import gives another number of samples each time.
#
# A good engineer would expect every series of a Prometheus snapshot in the store when vmctl says "Import finished!"
# and its exit status is 0. About every second import lacks some series; its own statistics, which are
# printed and compared with nothing, show it. --vm-concurrency=1 does not help.
#
# Seen: 30 imports of one snapshot of 5,002 samples: 13 complete, the others lack 15 to 120; exit status 0 each time
set -eu
dir=$(mktemp -d)
trap 'kill -9 $(cat "$dir"/*.pid) 2>/dev/null; rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download victoria-metrics=1.79.5+ds1-2+b5 prometheus=2.42.0+ds-5+deb12u1
for deb in *.deb; do dpkg -x "$deb" .; done
cat >prometheus.yml <<'YAML'
global: {scrape_interval: 1s}
scrape_configs: [{job_name: x, static_configs: [{targets: ['127.0.0.1:19091']}]}]
YAML
usr/bin/prometheus --config.file=prometheus.yml --storage.tsdb.path=data --web.listen-address=127.0.0.1:19091 \
  --web.enable-admin-api --log.level=error &
echo $! >prometheus.pid
usr/bin/victoria-metrics -storageDataPath=vm -httpListenAddr=127.0.0.1:18428 -loggerLevel=ERROR &
echo $! >vm.pid
sleep 20
python3 -c 'import urllib.request as u
u.urlopen(u.Request("http://127.0.0.1:19091/api/v1/admin/tsdb/snapshot", method="POST"))'
for n in $(seq 30); do
  # It wants a terminal.
  script --quiet --return --command "usr/bin/vmctl prometheus -s --prom-snapshot=$(echo data/snapshots/*) \
    --vm-addr=http://127.0.0.1:18428" /dev/null </dev/null >log
  grep -q 'Import finished!' log
  sed -n 's/.*total samples: \([0-9]*\);.*/\1/p' log >>totals
done
echo "in the snapshot: $(sed -n 's/.* samples: \([0-9]*\);.*/\1/p' log | head -1); imported:"
sort totals | uniq -c
[ "$(sort -u totals | wc -l)" -gt 1 ]
