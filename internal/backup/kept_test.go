package backup_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/generalbots/backupd/internal/backup"
	"github.com/generalbots/backupd/internal/store"
)

// However a file changed, it is cut as if there were no base: the same bytes
// have the same chunks in every snapshot, whatever came before.
func TestRun_CutsAChangedFileAsIfItWereNew(t *testing.T) {
	whole := random(40, 700_000)
	more := random(41, 100_000)
	same := bytes.Repeat([]byte{7}, 300_000)
	versions := map[string][2][]byte{
		"unchanged":           {whole, whole},
		"appended":            {whole, slices.Concat(whole, more)},
		"appended a byte":     {whole, append(slices.Clone(whole), 1)},
		"truncated":           {whole, whole[:len(whole)-1]},
		"truncated by much":   {whole, whole[:len(whole)/3]},
		"inserted in front":   {whole, slices.Concat(more, whole)},
		"inserted within":     {whole, slices.Concat(whole[:300_000], more, whole[300_000:])},
		"another end":         {whole, slices.Concat(whole[:len(whole)-10], more[:10])},
		"emptied":             {whole, nil},
		"filled":              {nil, whole},
		"of one byte, longer": {same, slices.Concat(same, same)},
		"one short chunk":     {whole[:100], whole[:101]},
		"halves swapped":      {whole, slices.Concat(whole[350_000:], whole[:350_000])},
	}
	dir := t.TempDir()
	v := newVault(t, store.NewMem())
	for name, of := range versions {
		write(t, dir, name, of[0])
	}
	clean(t, v.run(t, newTree(t, dir), backup.Full))
	for name, of := range versions {
		write(t, dir, name, of[1])
	}
	after := clean(t, v.run(t, newTree(t, dir), backup.Incremental))
	v.wantTree(t, after, dir)
	// A full one looks at no base.
	full := clean(t, v.run(t, newTree(t, dir), backup.Full))
	got, want := v.read(t, after), v.read(t, full)
	for name := range versions {
		a, b := got[name].Content.Inline, want[name].Content.Inline
		if len(a) == 0 && len(versions[name][1]) > 0 || !slices.Equal(a, b) {
			t.Errorf("%s: chunks %v, without a base %v", name, a, b)
		}
	}
	if after.Totals.BytesRead < int64(len(whole)) {
		t.Errorf("%d bytes were read: this proves nothing", after.Totals.BytesRead)
	}
}
