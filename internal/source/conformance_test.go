package source_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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

// Streams are files alone, whose directories are implied, and permission bits are all of their modes.
func TestStreams_Conform(t *testing.T) {
	kind := sourcetest.Kind{Piped: true, Nodes: func() []sourcetest.Node {
		nodes := slices.DeleteFunc(sourcetest.Tree(), func(n sourcetest.Node) bool { return n.Type != source.Regular })
		for i := range nodes {
			nodes[i].Mode &= 0o777
		}
		return nodes
	}}
	sourcetest.RunKind(t, kind, func(t *testing.T, nodes []sourcetest.Node) (source.Source, string) {
		nodes = slices.Clone(nodes)
		slices.SortFunc(nodes, func(a, b sourcetest.Node) int { return source.ComparePaths(a.Path, b.Path) })
		return source.NewStreams(func(context.Context) iter.Seq2[source.StreamFile, error] {
			return func(yield func(source.StreamFile, error) bool) {
				for _, n := range nodes {
					if !yield(source.StreamFile{Path: "dump/of/" + n.Path, Mode: n.Mode, Mtime: time.Unix(7, 8), Open: func(context.Context) (io.ReadCloser, error) {
						return io.NopCloser(strings.NewReader(n.Content)), nil
					}}, nil) {
						return
					}
				}
			}
		}), "dump/of"
	})
}

// Databases stand in directories of this host, under names of any kind.
func TestSQLite_Conforms(t *testing.T) {
	held := strings.Repeat("x", 64)
	made := filepath.Join(t.TempDir(), "made.db")
	db := openDB(t, made, "delete")
	execute(t, db, "CREATE TABLE load (x TEXT)")
	execute(t, db, "INSERT INTO load VALUES (?)", held)
	must(t, db.Close())
	pattern, err := os.ReadFile(made)
	must(t, err)
	kind := sourcetest.Kind{
		Nodes: func() []sourcetest.Node {
			nodes := []sourcetest.Node{
				{Path: "a-.db", Mode: 0o644}, {Path: "a/b/c/deep.db", Mode: 0o640}, {Path: "a.b", Mode: 0o600}, {Path: "new\nline", Mode: 0o644},
				{Path: "\xff\xfe not UTF-8", Mode: 0o644}, {Path: "back\\slash", Mode: 0o444}, {Path: "…/what?x=1&mode=rwc#%00", Mode: 0o4755},
			}
			for i := range nodes {
				nodes[i].Type, nodes[i].Content = source.Regular, fmt.Sprint(i)
			}
			return nodes
		},
		Content: func(text string) string {
			sum := sha256.Sum256([]byte(text))
			return strings.Replace(string(pattern), held, hex.EncodeToString(sum[:]), 1)
		},
		// SQLite counts in the head of a copy that it was written: at 24, 40 and 92.
		Same: func(got, want string) bool {
			return len(got) == len(want) && got[:24] == want[:24] && got[28:40] == want[28:40] && got[44:92] == want[44:92] && got[100:] == want[100:]
		},
	}
	sourcetest.RunKind(t, kind, func(t *testing.T, nodes []sourcetest.Node) (source.Source, string) {
		root := ramDir(t)
		plant(t, root, nodes)
		var paths []string
		for _, n := range nodes {
			paths = append(paths, filepath.Join(root, n.Path))
		}
		s, err := source.NewSQLite(source.SQLiteOptions{Paths: paths, Staging: ramDir(t)})
		must(t, err)
		t.Cleanup(func() { must(t, s.Close()) })
		return s, strings.TrimPrefix(root, "/")
	})
}
