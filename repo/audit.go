package repo

import (
	"cmp"
	"encoding/hex"
	"slices"
	"time"
)

// AuditRecord is one file of the directory snapshots: one thing that was done
// to the repository.
type AuditRecord struct {
	Object   string    `json:"object"` // its name, as findings give it
	Writer   string    `json:"writer"` // empty for an object that no writer made
	Seq      uint64    `json:"seq"`    // its number among the writer's, from 1
	At       time.Time `json:"at"`     // by the writer's clock; zero when it can not be read
	Kind     string    `json:"kind"`   // "snapshot", "forget", "undelete" or "damaged"
	Snapshot string    `json:"snapshot,omitempty"`
	Hash     string    `json:"hash,omitempty"` // of the file
	Prev     string    `json:"prev,omitempty"` // of the writer's file before it
	Problem  string    `json:"problem,omitempty"`
}

// Audit tells what was done to the repository, oldest first by the clocks of
// who did it, damaged files first of all. Each writer's files follow each
// other by their hashes; whether they do is what Check says. A manifest that
// gc has removed is missing: the record that forgot it names it.
func (r *Repo) Audit() []AuditRecord {
	r.mu.Lock()
	c := r.chain
	r.mu.Unlock()
	var list []AuditRecord
	for _, f := range c.files {
		list = append(list, f.audit())
	}
	for _, f := range c.foreign {
		list = append(list, f.audit())
	}
	slices.SortFunc(list, func(a, b AuditRecord) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Writer, b.Writer), cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Object, b.Object))
	})
	return list
}

func (f *chainFile) audit() AuditRecord {
	a := AuditRecord{Object: f.name, Seq: f.at.seq, Kind: "damaged"}
	if f.at != (place{}) {
		a.Writer = hex.EncodeToString(f.at.writer[:])
	}
	if f.hash != (hash{}) {
		a.Hash = f.hash.String()
	}
	if f.err != nil {
		a.Problem = f.err.Error()
	}
	if f.body == nil {
		return a
	}
	if f.body.Prev != (hash{}) {
		a.Prev = f.body.Prev.String()
	}
	switch b := f.body; b.kind() {
	case sealedManifest:
		a.Kind, a.At, a.Snapshot = "snapshot", b.Snapshot.FinishedAt, b.Snapshot.ID
	case sealedForget:
		a.Kind, a.At, a.Snapshot = "forget", b.Forget.At, b.Forget.ID
	case sealedUndelete:
		a.Kind, a.At, a.Snapshot = "undelete", b.Undelete.At, b.Undelete.ID
	}
	return a
}
