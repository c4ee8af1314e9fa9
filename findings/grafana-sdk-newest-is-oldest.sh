#!/bin/sh
# grafana-foundation-sdk (PyPI): the version that pip takes for the newest has the types of the oldest Grafana.
#
# A good engineer would expect the types of the newest Grafana from an upgrade. Every release is made for eleven versions of
# Grafana, the oldest last, and the version's epoch (before the "!") is the time of the build. An epoch counts more than
# all that follows, so 1769699998!10.1.0 is newer than 1769699379!11.6.0, which was built ten minutes before.
#
# Seen: pip download "grafana-foundation-sdk<=1769699998!10.1.0": 10.1.0, although 1769699379!11.6.0 is there too
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
get() { venv/bin/pip download --quiet --disable-pip-version-check --no-deps --dest "$1" "grafana-foundation-sdk$2"; }
get upgrade '<=1769699998!10.1.0'
get pinned '==1769699379!11.6.0'
ls upgrade pinned
ls upgrade | grep -q '1769699998!10\.1\.0' && ls pinned | grep -q '1769699379!11\.6\.0'
