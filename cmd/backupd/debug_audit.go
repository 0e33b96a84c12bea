package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/generalbots/backupd/internal/auth"
	"github.com/generalbots/backupd/internal/durable"
	"github.com/generalbots/backupd/repo"
	"github.com/spf13/cobra"
)

// errAuditBroken ends a verification that found something and has reported it.
var errAuditBroken = errors.New("the audit log is not what the daemon wrote")

// auditVerifyValue is what debug audit verify prints.
type auditVerifyValue struct {
	File  string          `json:"file"`
	Whole bool            `json:"whole"`
	Noted *auth.AuditHead `json:"noted"` // what the daemon noted as the end; null: nothing
	auth.AuditReport
}

func (p *program) debugAuditVerifyCommand() *cobra.Command {
	c := p.look("verify", "Verify the daemon's audit log: who asked it for what", "audit verify --config /etc/backupd/backupd.yaml", cobra.NoArgs,
		func(_ context.Context, r *repo.Repo, _ []string) error {
			return p.verifyAudit(p.state(r.ID()), r)
		})
	c.Long = `Reads the audit log in the state directory of the daemon, which may be running, and names every line that was changed,
added, moved or is missing. The key of its MACs comes from the repository's master key; what the daemon noted last as the
end of the log shows whether the end was cut off. What was done to the repository itself is shown by: backupd debug audit`
	return c
}

func (p *program) verifyAudit(stateDir string, r *repo.Repo) error {
	dir, err := durable.OS(stateDir)
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	defer dir.Close()
	known, err := readAuditHead(dir)
	if err != nil {
		return err
	}
	report, err := auth.VerifyAudit(dir, auth.AuditFileName, r.AuditKey(), &known)
	if err != nil {
		return err
	}
	v := auditVerifyValue{File: stateDir + "/" + auth.AuditFileName, Whole: report.OK(), AuditReport: report}
	v.Broken = orEmpty(v.Broken)
	if known.Records > 0 {
		v.Noted = &known
	}
	if p.json {
		if err := p.value(v); err != nil {
			return err
		}
	} else {
		for _, b := range report.Broken {
			p.print("line %d: %s", b.Line, b.Why)
		}
		if report.Torn > 0 {
			p.say("the last line is not finished: it is being written, or a crash tore it, and the next start of the daemon cuts it off")
		}
		p.say("%s: %s, the last one %s", printable(v.File), counted(report.Records, "genuine record"), short(report.Head.MAC))
	}
	if !report.OK() {
		return errAuditBroken
	}
	return nil
}
