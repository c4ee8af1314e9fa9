#!/bin/sh
# PCP 6.0.3 (Debian 12): an archive shows values of an instance for a time in which it did not exist, once it is back.
#
# A good engineer would expect no value where each record of the archive lists the metric's instances without this one: a VM
# that was off from 10 to 11 has no pages then. Replayed at an interval, which is the default of pmval, pmrep, pmie and
# of graphs, the last value before is taken up to the next, however long that is; a counter gets the mean rate of the gap.
# While the instance is away the same hours have no value, so a report of yesterday changes when the VM starts today.
# PCP bridges gaps on purpose, but knows here that nothing is missing. pmval -U and pmrep -u do not fill.
#
# Seen, instance b recorded as 100, five times not, then (first archive) as 200:
#       b is back: pmval 100 100 100 100 100 100 200, pmval -U 100 ? ? ? ? ? 200; b stays away: pmval 100 ? ? ? ? ? ?
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
v=6.0.3-1.1
apt-get -qq -o APT::Sandbox::User=root download pcp=$v pcp-conf=$v libpcp3=$v libpcp-import1=$v libpcp-archive1=$v \
  libpcp-pmda3=$v libpcp-web1=$v libpcp-gui2=$v python3-pcp=$v
for deb in *.deb; do dpkg -x "$deb" .; done
mkdir tmp
cat >pcp.conf <<CONF
PCP_SYSCONF_DIR=$dir/etc/pcp
PCP_BIN_DIR=$dir/usr/bin
PCP_BINADM_DIR=$dir/usr/lib/pcp/bin
PCP_SHARE_DIR=$dir/usr/share/pcp
PCP_VAR_DIR=$dir/var
PCP_LOG_DIR=$dir/tmp
PCP_TMP_DIR=$dir/tmp
PCP_TMPFILE_DIR=$dir/tmp
CONF
export PCP_CONF="$dir/pcp.conf" LD_LIBRARY_PATH="$dir/usr/lib"
cat >archive.py <<'PYTHON'
import sys

import cpmapi
from pcp.pmi import pmiLogImport

MOMENTS = 7
name, *present = sys.argv[1:]
archive = pmiLogImport(name)
archive.pmiSetHostname("host")
archive.pmiSetTimezone("UTC")
owners = archive.pmiInDom(245, 1)
pages = archive.pmiID(245, 0, 1)
unit = archive.pmiUnits(0, 0, 1, 0, 0, cpmapi.PM_COUNT_ONE)
archive.pmiAddMetric("pages", pages, cpmapi.PM_TYPE_U64, owners, cpmapi.PM_SEM_INSTANT, unit)
archive.pmiAddInstance(owners, "a", 1)
archive.pmiAddInstance(owners, "b", 2)
for moment in range(MOMENTS):
    archive.pmiPutValue("pages", "a", "5")
    if str(moment) in present:
        archive.pmiPutValue("pages", "b", "200" if moment else "100")
    archive.pmiWrite(1_700_000_000 + 10 * moment, 0)
archive.pmiEnd()
PYTHON
# Its Python modules look for libraries where ldconfig knows them; these are found because they are loaded already.
record() {
  LD_PRELOAD="libpcp.so.3 libpcp_import.so.1" PYTHONPATH="$dir/usr/lib/python3/dist-packages" /usr/bin/python3 archive.py "$@"
}
of_b() { usr/bin/pmval -z "$@" pages 2>tmp/errors | awk '/^[0-9][0-9]:/ {printf "%s%s", sep, $3; sep = " "}'; }
record back 0 6
record away 0
back=$(of_b -a back -t 10)
recorded=$(of_b -U back)
away=$(of_b -a away -t 10)
printf 'b is back: %s\nas recorded: %s\nb stays away: %s\n' "$back" "$recorded" "$away"
[ "$back" = "100 100 100 100 100 100 200" ] && [ "$recorded" = "100 ? ? ? ? ? 200" ] && [ "$away" = "100 ? ? ? ? ? ?" ]
