#!/bin/sh
# netdata 1.37.1 (Debian 12, package netdata-core): after everything was unmerged, KSM's saving never becomes 0.
#
# A good engineer would expect 0 MiB when the files of /sys/kernel/mm/ksm say 0. netdata collects nothing in a moment in which
# pages_shared, pages_sharing, pages_unshared and pages_volatile are all 0, which is how `echo 2 > run` leaves them.
# The charts have a gap from then on, and what gives the last value (allmetrics for a shell, and for Prometheus with
# source=raw) still gives the saving of before.
#
# Seen: 20480 pages in pages_sharing: NETDATA_MEM_KSM_SAVINGS_SAVINGS="80"; all four files 0 for 10 seconds: still "80",
#       raw 83886080, and for the last 5 seconds of the chart 404
set -eu
dir=$(mktemp -d)
trap 'kill $pid 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download netdata-core=1.37.1-2 libjson-c5=0.16-2 liblz4-1=1.9.4-1 \
  libuv1=1.44.2-1+deb12u1
for deb in *.deb; do dpkg -x "$deb" .; done
export LD_LIBRARY_PATH="$dir/usr/lib/x86_64-linux-gnu"
mkdir -p ksm config cache lib log web plugins
pages() { # shared, sharing
  echo "$1" >ksm/pages_shared
  echo "$2" >ksm/pages_sharing
  echo 0 >ksm/pages_unshared
  echo 0 >ksm/pages_volatile
}
{
  echo "[directories]"
  for name in config cache lib log web plugins; do echo "$name = $dir/$name"; done
  printf 'stock config = %s\nlock = %s\n' "$dir/config" "$dir/lib"
  printf '[db]\nmode = ram\n[web]\nbind to = 127.0.0.1:19190\n[logs]\naccess = none\n[health]\nenabled = no\n[ml]\nenabled = no\n'
  echo "[plugins]"
  for name in timex tc idlejitter cgroups checks apps diskspace statsd "netdata monitoring" "enable running new plugins"; do
    echo "$name = no"
  done
  echo "[plugin:proc:/sys/kernel/mm/ksm]"
  for name in shared sharing unshared volatile; do
    echo "/sys/kernel/mm/ksm/pages_$name = $dir/ksm/pages_$name"
  done
} >config/netdata.conf
pages 10 20480
usr/sbin/netdata -D -u "$(id -un)" -c "$dir/config/netdata.conf" >out 2>&1 &
pid=$!
cat >ask.py <<'PYTHON'
import re, time, urllib.error, urllib.request

SERVER = "http://127.0.0.1:19190/api/v1/"


def ask(path):
    for _ in range(300):
        try:
            return urllib.request.urlopen(SERVER + path).read().decode()
        except urllib.error.HTTPError as error:
            return str(error)
        except OSError:
            time.sleep(0.1)
    raise SystemExit("it does not start")


def first(pattern, text):
    return next(iter(re.findall(pattern, text)), None)


for _ in range(300):
    shell = first(r'_KSM_SAVINGS_SAVINGS="(\d+)"', ask("allmetrics?format=shell"))
    if shell is not None:
        break
    time.sleep(0.1)
raw = first(r'ksm_savings\{.*dimension="savings".*\} (\d+)', ask("allmetrics?format=prometheus&source=raw"))
data = ask("data?chart=mem.ksm_savings&after=-5&format=csv")
print(shell, raw, "rows" if data.startswith("time,savings,offered") else data)
PYTHON
merged=$(python3 ask.py && sleep 7 && python3 ask.py)
pages 0 0
sleep 10
unmerged=$(python3 ask.py)
echo "merged: $(echo "$merged" | tail -1); unmerged: $unmerged"
[ "$(echo "$merged" | tail -1)" = "80 83886080 rows" ] && [ "$unmerged" = "80 83886080 HTTP Error 404: Not Found" ]
