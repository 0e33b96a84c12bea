package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"syscall"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/auth"
	"github.com/generalbots/backupd/internal/durable"
	"github.com/generalbots/backupd/internal/job"
	"github.com/generalbots/backupd/internal/state"
)

// auditHeadName is the note of the last record of the audit log, in the state directory; maxAuditHead bounds it in bytes.
const (
	auditHeadName = "audit.head"
	maxAuditHead  = 4 << 10
)

// trail is the audit log with what is known elsewhere of its end. Each transaction of the state file holds the end as it was then,
// so that no record of a change can be cut off unseen. The note lags behind by noteEvery at most: after a crash, records of
// denials since then could be.
type trail struct {
	*auth.Audit
	dir *durable.OSFS
	log *slog.Logger

	mu    sync.Mutex
	noted auth.AuditHead // guarded by mu
}

// openTrail opens the audit log and compares it with the note and the state file. A log that ends before either, or is not of
// this repository, stops the daemon; damage further up is told at every start. Without log and note a new one begins, which
// tells in its first record that there was another.
func openTrail(dir *durable.OSFS, db *state.DB, key crypto.Key, log *slog.Logger) (*trail, error) {
	known, err := readAuditHead(dir)
	if err != nil {
		return nil, err
	}
	anchor, err := db.Anchor()
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return nil, err
	}
	// Opened first: what a crash tore at the end is repaired before it is judged.
	a, err := auth.OpenAudit(dir, auth.AuditFileName, key)
	if err != nil {
		return nil, err
	}
	t := &trail{Audit: a, dir: dir, log: log, noted: known}
	if err := t.begin(known, anchor, key); err != nil {
		a.Close()
		return nil, err
	}
	db.Follow(func() state.Anchor {
		h := a.Head()
		return state.Anchor{Records: h.Records, MAC: h.MAC}
	})
	return t, nil
}

// begin judges the log by what is known of its end.
func (t *trail) begin(known auth.AuditHead, anchor state.Anchor, key crypto.Key) error {
	head := t.Head()
	lost := known.Records == 0 && head.Records == 0 && anchor.Records > 0
	if anchor.Records > known.Records && !lost {
		known = auth.AuditHead{Records: anchor.Records, MAC: anchor.MAC}
	}
	report, err := auth.VerifyAudit(t.dir, auth.AuditFileName, key, &known)
	if err != nil {
		return err
	}
	if report.Head != head || known.Records > head.Records {
		return fmt.Errorf("the audit log has lost its end: record %d was noted as written, the last one there is %d; move %s and %s away as evidence to begin a new one",
			known.Records, report.Head.Records, auth.AuditFileName, auditHeadName)
	}
	if n := t.Repaired(); n > 0 {
		t.log.Warn("the last line of the audit log was torn and cut off; nobody was told that it was there", "bytes", n)
	}
	for _, b := range report.Broken {
		t.log.Error("the audit log is not what was written", "line", b.Line, "why", b.Why)
	}
	if lost {
		t.log.Error("the audit log is not there, and a new one begins", "records", anchor.Records, "head", anchor.MAC)
		if err := t.Append(auth.Record{Actor: "daemon", Role: "daemon", Action: "audit.begin", Outcome: "ok",
			Detail: fmt.Sprintf("a log before this one is not there: it had %d records, the last with the MAC %s", anchor.Records, anchor.MAC)}); err != nil {
			return err
		}
	}
	t.log.Info("audit log", "records", t.Head().Records, "head", t.Head().MAC)
	if err := t.note(); errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		t.log.Error("the end of the audit log could not be noted", "error", err) // reading must go on
	} else if err != nil {
		return err
	}
	return nil
}

// readAuditHead reads the note; none is the head of an empty log.
func readAuditHead(dir durable.FS) (h auth.AuditHead, err error) {
	b, err := durable.ReadFile(dir, auditHeadName, maxAuditHead)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &h)
	}
	if err != nil {
		return h, fmt.Errorf("%s: %w; it says how long the audit log was: keep both as evidence, and move it away to start without it", auditHeadName, err)
	}
	return h, nil
}

// note writes down the end of the log when it has moved.
func (t *trail) note() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	head := t.Head()
	if head == t.noted {
		return nil
	}
	b, err := json.Marshal(head)
	if err != nil {
		return err
	}
	if err := durable.ReplaceFile(t.dir, auditHeadName, append(b, '\n')); err != nil {
		return fmt.Errorf("%s: %w", auditHeadName, err)
	}
	t.noted = head
	return nil
}

// Acted writes down what the daemon does of its own accord. It is done also when that can not be written.
func (t *trail) Acted(a job.Act) {
	if err := t.Append(auth.Record{Actor: a.Actor, Role: "daemon", Action: a.Action, Resource: a.Resource, Outcome: "ok", Detail: a.Detail}); err != nil {
		t.log.Error("the audit log could not be written", "action", a.Action, "resource", a.Resource, "error", err)
	}
}

// Close notes the end and closes the log.
func (t *trail) Close() error { return errors.Join(t.note(), t.Audit.Close()) }
