#!/bin/sh
# prometheus-alertmanager 0.25.0 (Debian 12): without a private address it does not start, although it has no peers.
#
# A good engineer would expect a single instance that listens on 127.0.0.1 to need no other address. It always joins a
# cluster of its own, looks for a private address (RFC 6890) to tell to peers, and ends with status 1 if there is none: in a
# test without a network, or on a host with public addresses only. --cluster.listen-address= turns the cluster off.
#
# Seen, with lo alone: "unable to initialize gossip mesh" ... "No private IP address found, and explicit IP not provided"
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download prometheus-alertmanager=0.25.0-1+b4
dpkg -x prometheus-alertmanager_*.deb .
printf 'route: {receiver: x}\nreceivers: [{name: x}]\ntemplates: []\n' >config.yml
start() { # in a network of its own, with the templates where Debian has them
  unshare --net --mount sh -c "ip link set lo up && mount --bind usr/share /usr/share && exec timeout 5 \
    usr/bin/prometheus-alertmanager --config.file=config.yml --storage.path=data \
    --web.listen-address=127.0.0.1:19093 $1" >log 2>&1 || echo $?
}
plain=$(start "")
grep -o 'No private IP address found.*' log
without=$(start --cluster.listen-address=)
# 124: it worked until timeout(1) ended it.
echo "plain: $plain, without a cluster: $without"
[ "$plain" = 1 ] && [ "$without" = 124 ]
