package source_test

import (
	"strings"
	"testing"

	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/internal/source/sourcetest"
)

func TestFiles_Conforms(t *testing.T) {
	for _, workers := range []int{0, 1, 7} {
		sourcetest.Run(t, func(t *testing.T, nodes []sourcetest.Node) (source.Source, string) {
			root := ramDir(t)
			plant(t, root, nodes)
			return newFiles(t, source.FilesOptions{Paths: []string{root}, Workers: workers}), strings.TrimPrefix(root, "/")
		})
	}
}
