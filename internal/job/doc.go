// Package job decides what runs when: the durable queue of backups, restores,
// verifications and garbage collections, the schedules that feed it, the runner
// that empties it, and what is kept of each job afterwards.
//
//	CreateBackup, Restore, …   durable in internal/state when they return
//	   |
//	queue ──► runner: one backup or gc at a time, restores and verifications beside
//	   |         the backup, gc alone
//	   └──► schedules, expiry, upkeep: make jobs like everybody else
//
// A job that was running when the process ended is found again at the next
// start: it is interrupted, and queued again under the same id. What it had
// stored is used then, so nothing is stored twice.
package job
