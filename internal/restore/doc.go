// Package restore does one run: a snapshot of a repository becomes files again.
//
//	plan: walks the trees of all parts as one, in order --> windows of entries and chunks, sorted by pack and block
//	   |
//	   +--> workers: decode a block, write its chunks to their places, finish a file as its last chunk lands
//	           |
//	           +--> a directory gets its metadata when everything in it is done, so the deepest come first
//
// At the end everything is made durable at once.
//
// Memory depends on neither the number of files nor their sizes: a window holds
// a bounded number of entries and chunk references, a huge file is cut into
// several, and the plan waits while enough windows are under way. What stays
// over windows are the directories that are not complete and one record for
// every hard-linked inode of which names are still to come.
//
// A name in the target is that of a whole file or of nothing, see package
// target. So a run over what a dead one left adds what is missing, whatever
// Options.Overwrite says: directories that were begun are finished, and
// missing names of a file that is there become links to it, once its content
// was found to be the same.
//
// Every chunk was compared with its id by repo.Reader before it is written. A
// file with a chunk that can not be read is a problem and not there; all else
// is restored. A cancelled context ends every stage, files that are not
// complete are removed.
package restore
