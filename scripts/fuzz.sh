#!/bin/sh
# fuzz.sh TIME runs every fuzz target of the module for TIME, one after the other.
set -eu
time=${1:-30s}
go=${GO:-go}
for package in $($go list ./...); do
	for target in $($go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
		echo "== $package $target"
		$go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 1s "$package"
	done
done
