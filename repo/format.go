package repo

import "errors"

// FormatVersion is the version of everything a repository holds. A reader
// refuses any version above it and never guesses. Each change of the format
// gets the next number; numbers are never used again.
const FormatVersion = 1

// Every length, count and depth that is read from outside is compared with
// one of these before anything is allocated for it. FORMAT.md lists them; a
// test holds the two against each other.
const (
	// DefaultPackSize is the exact size of a full pack in bytes, unless the
	// config says otherwise.
	DefaultPackSize = 32 << 20
	// MinPackSize and MaxPackSize bound the pack size a config may name.
	MinPackSize = 1 << 20
	MaxPackSize = 256 << 20
	// MinTailSize is the least size of a pack that was closed before it was
	// full; larger tails are padded to the next Padmé size.
	MinTailSize = 64 << 10

	// BlockSize is where an open block is closed: the plaintext of a block
	// stays at or below it, except that a chunk above it is a block alone.
	BlockSize = 256 << 10
	// MaxChunkSize bounds one chunk, and so the plaintext of one block.
	MaxChunkSize = 8 << 20
	// MaxChunksPerBlock bounds the chunks of one block.
	MaxChunksPerBlock = 4096
	// MaxBlocksPerPack bounds the blocks of one pack, the padding included.
	MaxBlocksPerPack = 65535

	// MaxDictionarySize bounds the raw dictionary of one delta block in bytes.
	MaxDictionarySize = 512 << 10
	// MaxDictionaryChunks bounds the chunks one dictionary is made of.
	MaxDictionaryChunks = 1024
	// MaxDepth is the greatest depth of a delta block. A block without a
	// dictionary has depth 0; a delta block is one deeper than the deepest
	// block it takes from.
	MaxDepth = 16
	// MaxReach bounds the plaintext bytes that must be decoded to read one
	// block: its own and those of all blocks its dictionary leads to.
	MaxReach = 32 << 20

	// MaxPageSize bounds a tree page in bytes.
	MaxPageSize = 4 << 20
	// MaxPageLevel bounds the levels of pages above a directory's or a
	// file's leaves.
	MaxPageLevel = 8
	// MaxInlineChunks is the longest chunk list that stands in the entry
	// itself; a longer one is paged.
	MaxInlineChunks = 16
	// MaxNameLength bounds one name component in bytes.
	MaxNameLength = 255
	// MaxTargetLength bounds the target of a symlink in bytes.
	MaxTargetLength = 4096
	// MaxXattrsSize bounds the extended attributes of one entry in bytes,
	// names and values together.
	MaxXattrsSize = 1 << 20
	// MaxExtents bounds the data ranges recorded for one sparse file; a file
	// with more is recorded without them and restored dense.
	MaxExtents = 65536
	// MaxTreeDepth bounds how deep directories nest in a snapshot.
	MaxTreeDepth = 16384

	// MaxSealedFileSize bounds a manifest, a record, a config or a tomb.
	MaxSealedFileSize = 64 << 20
	// MaxSlotSize bounds a key slot.
	MaxSlotSize = 64 << 10
	// MaxSlots bounds the key slots of one repository.
	MaxSlots = 64
)

// Errors that callers act on. Errors about one object wrap one of them and
// name the object.
var (
	// ErrNoRepository: there is no repository at that place.
	ErrNoRepository = errors.New("no backupd repository here")
	// ErrExists: there is a repository at that place already.
	ErrExists = errors.New("there is a repository here already")
	// ErrNewerFormat: the repository was written by a newer backupd.
	ErrNewerFormat = errors.New("the repository has a newer format than this backupd reads; use a newer backupd")
	// ErrDamaged: bytes of the repository are not what was written.
	ErrDamaged = errors.New("the repository is damaged")
	// ErrNotFound: a chunk, a snapshot or a path is not there.
	ErrNotFound = errors.New("not found")
	// ErrReadOnly: the repository was opened read only, or had to be.
	ErrReadOnly = errors.New("the repository is open read only")
	// ErrRollback: the repository does not descend from the state this host
	// has seen before.
	ErrRollback = errors.New("the repository is older than what this host has seen of it")
)
