// Package repo keeps snapshots in a repository and gives them back. FORMAT.md
// is the law of what it stores; this package is all of backupd that knows it.
//
// The layers, each of which knows only the ones below it:
//
//	snapshot   manifest, records, chain, head   what a run left, and what was forgotten
//	tree       entries, pages, contents         directories and chunk lists, as chunks
//	block      chunks, codecs, dictionaries     what is compressed and sealed together
//	pack       header, blocks, trailer          one file of the store, of one kind
//	format     format file, config, key slots   what a repository is, and its maxima
//
// [Init] makes a repository, [Open] opens one: format file, key slot, config,
// chain, the list of packs, then the head. No pack is read before it is needed.
//
// A backup takes a [Writer], which holds the writer's lock. Any number of
// goroutines put chunks, each through a [Lane] of its own: hash, look up,
// collect into a block, compress, decode and compare, seal, write. One
// goroutine makes the tree with the [TreeWriter], deepest directories first;
// its pages go through a lane too. Commit flushes the packs, looks whether all
// that deduplication relied on is still there, and writes the manifest:
//
//	pack durable -> index told -> manifest last
//
// A restore goes the other way with the [Reader], which any number of
// goroutines share: the root of a part, [DirReader] and [ContentReader] for
// the pages, Locate to order the chunks by pack and block, OpenBlock and Chunk
// for their bytes. A chunk it hands out has been compared with its id; nothing
// else of what it reads is trusted.
//
// Forget writes a record. GC, which has the repository to itself, then removes
// what no live snapshot leads to; Check reads and compares; both ask packs and
// manifests and never the index, which is a cache.
//
// Every length read from outside has a maximum in this package that is
// compared before memory is taken for it. What is wrong with a repository is
// an error that wraps [ErrDamaged] and names the object, never a panic.
package repo
