#!/bin/sh
# promtool 2.42.0 (Debian 12, package prometheus): a test of an alert that no rule has passes, if it says that nothing fires.
#
# A good engineer would expect an error for an alertname that is in none of the rule_files, as for a file that is not there.
# To promtool it is an alert that does not fire. So a test of what must not happen ("no alert on a healthy host") cannot
# fail once its name is mistyped, or the rule was renamed, and nothing says so.
#
# Seen, with a rule KsmStopped that fires, and exp_alerts: []: alertname KsmStoped: SUCCESS, status 0; KsmStopped: FAILED, 1
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download prometheus=2.42.0+ds-5+deb12u1
dpkg -x prometheus_*.deb .
cat >rules.yml <<'YAML'
groups: [{name: ksm, rules: [{alert: KsmStopped, expr: node_ksmd_run == 0}]}]
YAML
ask() { # the alert's name
  cat >test.yml <<YAML
rule_files: [rules.yml]
tests:
- interval: 1m
  input_series: [{series: node_ksmd_run, values: 0 0 0}]
  alert_rule_test: [{eval_time: 1m, alertname: $1, exp_alerts: []}]
YAML
  status=0
  usr/bin/promtool test rules test.yml >out 2>&1 || status=$?
  echo "$1: $(grep -o 'SUCCESS\|FAILED' out) $status"
}
mistyped=$(ask KsmStoped)
right=$(ask KsmStopped)
printf '%s\n%s\n' "$mistyped" "$right"
[ "$mistyped" = "KsmStoped: SUCCESS 0" ] && [ "$right" = "KsmStopped: FAILED 1" ]
