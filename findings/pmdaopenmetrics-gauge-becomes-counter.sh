#!/bin/sh
# pmdaopenmetrics of PCP 6.0.3 (Debian 12): a gauge with "count", "sum" or "total" in its name is a counter.
#
# A good engineer would expect the semantics of "# TYPE ... gauge". The agent also looks at the words of the name, and
# one of these wins over the declared type. Tools then show a rate: pmval of a gauge that stays at 40 shows 0.
#
# Seen: app_thread_count, app_memory_total_bytes, app_jobs, all declared as gauges:
#       pminfo -d says Semantics: counter, counter, instant
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
# TYPE app_thread_count gauge
app_thread_count 40
# TYPE app_memory_total_bytes gauge
app_memory_total_bytes 4096
# TYPE app_jobs gauge
app_jobs 3
METRICS
echo "file://$dir/text" >config.d/app.url
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
until ask openmetrics.app | grep -q app_jobs; do sleep 1; done
ask -d openmetrics.app | tee found
semantics() { grep -A2 "$1" found | sed -n 's/.*Semantics: \([a-z]*\).*/\1/p'; }
[ "$(semantics thread_count) $(semantics total_bytes) $(semantics app_jobs)" = "counter counter instant" ]
