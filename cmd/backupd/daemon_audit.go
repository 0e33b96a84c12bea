package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/auth"
	"github.com/generalbots/backupd/internal/durable"
	"github.com/generalbots/backupd/internal/job"
)

// auditHeadName is the note of the last record of the audit log, in the state directory; maxAuditHead bounds it in bytes.
const (
	auditHeadName = "audit.head"
	maxAuditHead  = 4 << 10
)

// trail is the audit log with the note of its end. The note lags behind by noteEvery at most: records written since then
// could be cut off unseen after a crash, all before it could not.
type trail struct {
	*auth.Audit
	dir *durable.OSFS
	log *slog.Logger

	mu    sync.Mutex
	noted auth.AuditHead // guarded by mu
}

// openTrail opens the audit log and compares it with the note. A log that ends before the note, or is not of this
// repository, stops the daemon; damage further up is told at every start.
func openTrail(dir *durable.OSFS, key crypto.Key, log *slog.Logger) (*trail, error) {
	known, err := readAuditHead(dir)
	if err != nil {
		return nil, err
	}
	// Opened first: what a crash tore at the end is repaired before it is judged.
	a, err := auth.OpenAudit(dir, auth.AuditFileName, key)
	if err != nil {
		return nil, err
	}
	t := &trail{Audit: a, dir: dir, log: log}
	report, err := auth.VerifyAudit(dir, auth.AuditFileName, key, &known)
	if err == nil && (report.Head != a.Head() || known.Records > report.Head.Records) {
		err = fmt.Errorf("the audit log has lost its end: record %d was noted as written, the last one there is %d; move %s and %s away as evidence to begin a new one",
			known.Records, report.Head.Records, auth.AuditFileName, auditHeadName)
	}
	if err != nil {
		a.Close()
		return nil, err
	}
	if n := a.Repaired(); n > 0 {
		log.Warn("the last line of the audit log was torn and cut off; nobody was told that it was there", "bytes", n)
	}
	for _, b := range report.Broken {
		log.Error("the audit log is not what was written", "line", b.Line, "why", b.Why)
	}
	t.noted = known
	log.Info("audit log", "records", report.Head.Records, "head", report.Head.MAC)
	return t, t.note()
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
