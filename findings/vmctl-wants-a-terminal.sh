#!/bin/sh
# vmctl 1.79.5 (Debian 12, package victoria-metrics): without a terminal an import fails, although told to be silent.
#
# A good engineer would expect -s (silent) and --vm-disable-progress-bar to be what a timer or a pipeline needs. vmctl
# still asks the terminal for its settings, imports nothing, and its exit status is 1. Below script(1) it works.
#
# Seen: "error when puts the terminal connected to the given file descriptor: inappropriate ioctl for device"
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
command="usr/bin/vmctl prometheus -s --vm-disable-progress-bar --prom-snapshot=$(echo data/snapshots/*) \
  --vm-addr=http://127.0.0.1:18428"
status=0
setsid $command </dev/null >log 2>&1 || status=$?
tail -1 log
script --quiet --return --command "$command" /dev/null </dev/null >terminal
echo "without a terminal: $status; with one: $(grep -o 'Import finished!' terminal)"
[ $status = 1 ] && grep -q 'inappropriate ioctl' log && grep -q 'Import finished!' terminal
