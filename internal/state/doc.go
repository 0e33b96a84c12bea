// Package state is the daemon's own memory: jobs, schedules, answers promised to
// clients, what retention and verification recorded. It is one bbolt file below
// the state directory, and losing it loses no backup.
//
// Every call that writes is durable when it returns, and what belongs together
// goes into one [DB.Update]: a client that was told 201 finds its job after any
// crash. The package knows nothing of what a job means.
//
// A record's value is
//
//	version   1 byte    of this kind of record; a newer one is refused
//	checksum  4 bytes   CRC-32C of version, bucket, 0, key, 0, text; big endian
//	text      …         one JSON object
//
// bbolt keeps no checksums of its own and answers damage with panics, endless
// loops or a fault that no recover stops. So the file is read through and every
// page judged before bbolt maps it, panics and faults that come later stop at
// this package's wall, and a record whose checksum is wrong is never returned.
package state
