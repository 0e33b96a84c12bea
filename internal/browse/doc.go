// Package browse looks into snapshots: it goes through the trees of their parts as
// one tree, finds paths and names, reads files, and writes archives. It writes to
// no repository and to no file system.
package browse
