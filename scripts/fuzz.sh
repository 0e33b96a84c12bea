#!/bin/sh
# fuzz.sh TIME runs every fuzz target of the module for TIME, one after the other. One that fails holds up no other; at the
# end all that failed are named, and the exit code is 1.
set -eu
trap 'exit 130' INT TERM
time=${1:-30s}
go=${GO:-go}
failed=
packages=$($go list ./...)
for package in $packages; do
	# A package that does not compile has no list.
	if ! listed=$($go test -list '^Fuzz' "$package"); then
		echo "$listed" >&2
		failed="$failed
  $package does not list its targets"
		continue
	fi
	for target in $(echo "$listed" | grep '^Fuzz' || true); do
		echo "== $package $target"
		$go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 1s "$package" || failed="$failed
  $package $target"
	done
done
[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }
