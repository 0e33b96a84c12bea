package store

import "fmt"

// The directories that hold no objects.
const (
	tmpDir  = "tmp"
	lockDir = "locks"
)

// layout returns the directories of a repository, parents first. All 256 pack
// directories exist from the beginning, so that publishing a pack never has to
// make a directory durable as well.
func layout() []string {
	dirs := []string{lockDir, tmpDir, "keys", "snapshots", "gc", "packs"}
	for i := range 256 {
		dirs = append(dirs, fmt.Sprintf("packs/%02x", i))
	}
	return dirs
}
