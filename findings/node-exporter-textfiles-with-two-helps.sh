#!/bin/sh
# prometheus-node-exporter 1.5.0 (Debian 12): of two text files with other HELP texts for one metric, one loses its samples.
#
# A good engineer would expect both samples: HELP is a comment for people, and either file alone is taken whole. All
# samples of a metric must have one HELP text and one type. A file without the line does not agree with a file
# that has it. The samples of one file are left out; the answer has status 200, node_textfile_scrape_error is 0 and
# node_scrape_collector_success is 1, so that no alert on the text files fires. Only the log tells, and the counter
# promhttp_metric_handler_errors_total, which names neither file nor metric.
#
# Seen, vm_pages{vm="a"} with HELP in a.prom; in b.prom vm_pages{vm="b"} with another HELP, with none, and with another type:
#       vm="a" only, status 200, node_textfile_scrape_error 0; with the same HELP and type: both
set -eu
dir=$(mktemp -d)
trap 'kill $pid 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download prometheus-node-exporter=1.5.0-1+b6
dpkg -x prometheus-node-exporter_*.deb .
mkdir text
usr/bin/prometheus-node-exporter --collector.disable-defaults --collector.textfile --collector.textfile.directory=text \
  --web.listen-address=127.0.0.1:19100 2>log &
pid=$!
cat >ask.py <<'PYTHON'
import time, urllib.error, urllib.request

for _ in range(100):
    try:
        answer = urllib.request.urlopen("http://127.0.0.1:19100/metrics")
        break
    except urllib.error.URLError:
        time.sleep(0.1)
wanted = ("vm_", "node_textfile_scrape_error ", "node_scrape_collector_success{")
lines = [line for line in answer.read().decode().splitlines() if line.startswith(wanted)]
print(answer.status, " ".join(line.replace('{collector="textfile"}', "") for line in lines))
PYTHON
give() { # file, HELP (or nothing), type
  [ -z "$2" ] || echo "# HELP vm_pages $2"
  printf '# TYPE vm_pages %s\nvm_pages{vm="%s"} 1\n' "$3" "$1"
}
give a "Merged pages." gauge >text/a.prom
give b "Merged pages of a VM." gauge >text/b.prom
help=$(python3 ask.py)
give b "" gauge >text/b.prom
none=$(python3 ask.py)
give b "Merged pages." untyped >text/b.prom
type=$(python3 ask.py)
give b "Merged pages." gauge >text/b.prom
same=$(python3 ask.py)
printf 'other HELP: %s\nno HELP:    %s\nother type: %s\nsame:       %s\n' "$help" "$none" "$type" "$same"
grep -o 'has help .*\|should be a .*' log
one='200 node_scrape_collector_success 1 node_textfile_scrape_error 0 vm_pages{vm="a"} 1'
[ "$help" = "$one" ] && [ "$none" = "$one" ] && [ "$type" = "$one" ]
[ "$same" = "$one vm_pages{vm=\"b\"} 1" ]
