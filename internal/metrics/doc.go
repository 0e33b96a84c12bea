// Package metrics counts what the daemon does and shows it to Prometheus.
//
// It has a registry of its own and knows nothing of jobs or routes: its methods
// take plain values. What happens is counted when it happens; what is, such as the
// time of the last good backup of a source, is asked for when somebody looks, at
// most once in a while, so that nothing goes stale and a deleted schedule leaves
// nothing behind.
//
// Times are given twice: as the moment, which alert rules subtract from time(), and
// as an age in seconds, computed at each look, for eyes and simple checks.
package metrics
