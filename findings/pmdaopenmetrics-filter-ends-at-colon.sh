#!/bin/sh
# pmdaopenmetrics of PCP 6.0.3 (Debian 12): a filter's regular expression ends at its first colon.
#
# A good engineer would expect "FILTER: EXCLUDE METRIC ^instance:" to leave out what Prometheus's recording rules have
# made, whose names have colons, and nothing else. The agent splits the line at colons and drops the rest, so the
# filter is "^instance", and more is left out. Nothing is logged. A group as in (?:a|b) becomes "(?".
#
# Seen: instance:cpu:rate, instance_up and other exposed: only other is there
set -eu
dir=$(mktemp -d)
trap 'kill $pid 2>/dev/null; wait; rm -rf "$dir"' EXIT
cd "$dir"
v=6.0.3-1.1
apt-get -qq -o APT::Sandbox::User=root download pcp=$v pcp-conf=$v libpcp3=$v libpcp-pmda3=$v libpcp-web1=$v \
  libpcp-archive1=$v python3-pcp=$v python3-requests=2.28.1+dfsg-1 python3-urllib3=1.26.12-1+deb12u4 \
  python3-idna=3.3-1+deb12u1 python3-chardet=5.1.0+dfsg-2 python3-certifi=2022.9.24-1 python3-six=1.16.0-4
for deb in *.deb; do dpkg -x "$deb" .; done
mkdir -p config.d var/config/pmda var/pmns run log tmp
cat >text <<'METRICS'
# TYPE instance:cpu:rate gauge
instance:cpu:rate 1
# TYPE instance_up gauge
instance_up 1
# TYPE other gauge
other 1
METRICS
printf 'file://%s/text\nFILTER: EXCLUDE METRIC ^instance:\n' "$dir" >config.d/app.url
cat >pcp.conf <<CONF
PCP_ETC_DIR=$dir/etc
PCP_SYSCONF_DIR=$dir/etc/pcp
PCP_BIN_DIR=$dir/usr/bin
PCP_BINADM_DIR=$dir/usr/lib/pcp/bin
PCP_SHARE_DIR=$dir/usr/share/pcp
PCP_VAR_DIR=$dir/var
PCP_RUN_DIR=$dir/run
PCP_LOG_DIR=$dir/log
PCP_TMP_DIR=$dir/tmp
PCP_TMPFILE_DIR=$dir/tmp
PCP_PYTHON_PROG=/usr/bin/python3
PCP_PLATFORM=linux
PCP_USER=root
PCP_GROUP=root
CONF
echo "openmetrics 144 pipe binary notready $dir/usr/bin/pmpython \
$dir/usr/lib/pcp/pmdas/openmetrics/pmdaopenmetrics.python -c $dir/config.d -l $dir/log/agent.log" >pmcd.conf
printf 'root {\n openmetrics 144:*:*\n}\n' >pmns
export PCP_CONF="$dir/pcp.conf" LD_LIBRARY_PATH="$dir/usr/lib" PYTHONPATH="$dir/usr/lib/python3/dist-packages" \
  LD_PRELOAD="$dir/usr/lib/libpcp.so.3 $dir/usr/lib/libpcp_pmda.so.3"
usr/lib/pcp/bin/pmcd -f -U root -p 19144 -s "$dir/run/socket" -c pmcd.conf -n pmns -l log/pmcd.log &
pid=$!
ask() { usr/bin/pminfo -h 127.0.0.1:19144 "$@" 2>&1; }
until ask openmetrics.app | grep -q other; do sleep 1; done
found=$(ask openmetrics.app)
echo "$found"
[ "$found" = openmetrics.app.other ]
