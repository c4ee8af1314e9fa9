#!/bin/sh
# promtool 2.42.0 (Debian 12, package prometheus): `promtool test rules` does not heed the interval of a group of rules.
#
# A good engineer would expect a unit test to evaluate the rules when Prometheus would. A group with an interval of its own
# is evaluated at each evaluation_interval of the test (1 minute if not given). So an alert with `for: 15m` in a group with
# `interval: 10m` fires after 15 minutes in the test, and after 20 in Prometheus; and a recording rule has ten times the
# samples, so that a test of avg_over_time or count_over_time of it proves nothing.
#
# Seen, with a rule of time() in a group of 4 s and an evaluation_interval of 1 s: in 20 s Prometheus has 5 samples,
#       and the test 21 (both ends of a range belong to it)
set -eu
dir=$(mktemp -d)
trap 'kill $pid 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download prometheus=2.42.0+ds-5+deb12u1
dpkg -x prometheus_*.deb .
cat >rules.yml <<'YAML'
groups:
  - name: slow
    interval: 4s
    rules:
      - {record: x, expr: time()}
YAML
cat >test.yml <<'YAML'
rule_files: [rules.yml]
evaluation_interval: 1s
tests:
  - interval: 1s
    promql_expr_test:
      - expr: count_over_time(x[20s])
        eval_time: 40s
        exp_samples: [{value: 5}]
YAML
cat >prometheus.yml <<'YAML'
global: {evaluation_interval: 1s}
rule_files: [rules.yml]
YAML
usr/bin/prometheus --config.file=prometheus.yml --storage.tsdb.path=data --web.listen-address=127.0.0.1:19091 \
  --log.level=error &
pid=$!
usr/bin/promtool test rules test.yml >log 2>&1 || true
in_test=$(sed -n 's/.*got: {} //p' log)
sleep 32
in_prometheus=$(python3 -c 'import json, urllib.request as u
answer = u.urlopen("http://127.0.0.1:19091/api/v1/query?query=count_over_time(x[20s])")
print(*(row["value"][1] for row in json.load(answer)["data"]["result"]))')
echo "in the test: $in_test, in Prometheus: $in_prometheus"
[ "$in_test" = 2.1E+01 ] && [ "$in_prometheus" = 5 ]
