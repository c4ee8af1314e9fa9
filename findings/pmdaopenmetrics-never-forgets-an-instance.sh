#!/bin/sh
# pmdaopenmetrics of PCP 6.0.3 (Debian 12): the labels of a series that is gone stay in memory and on disk for ever.
#
# A good engineer would expect the instance domain to follow the exposition, as that of the agent for processes does.
# Every set of labels that was ever seen keeps a number, which is saved below /var/lib/pcp/config/pmda and read again
# after a restart, and the whole file is written again for each new one. There is no age and no limit. For an exporter
# whose labels name pods, containers or processes both grow without bound.
#
# Seen: one series at a time, 40 sets of labels after each other, restart: 1 value, 40 instances
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
echo 'jobs{id="0"} 1' >text
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
until ask openmetrics.app | grep -q jobs; do sleep 1; done
for n in $(seq 0 39); do
  echo "jobs{id=\"$n\"} 1" >new
  mv new text
  ask -f openmetrics.app.jobs >/dev/null
done
kill $pid
wait $pid || true
usr/lib/pcp/bin/pmcd -f -U root -p 19144 -s "$dir/run/socket" -c pmcd.conf -n pmns -l log/pmcd.log &
pid=$!
until ask openmetrics.app | grep -q jobs; do sleep 1; done
values=$(ask -f openmetrics.app.jobs | grep -c 'value 1')
instances=$(/usr/bin/python3 - <<'PYTHON'
from pcp import pmapi
context = pmapi.pmContext(pmapi.c_api.PM_CONTEXT_HOST, "127.0.0.1:19144")
(pmid,) = context.pmLookupName(("openmetrics.app.jobs",))
print(len(context.pmGetInDom(context.pmLookupDesc(pmid))[0]))
PYTHON
)
echo "values: $values, instances: $instances"
[ "$values" = 1 ] && [ "$instances" = 40 ]
