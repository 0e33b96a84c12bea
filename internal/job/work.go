package job

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/generalbots/backupd/internal/backup"
	"github.com/generalbots/backupd/internal/restore"
	"github.com/generalbots/backupd/internal/target"
	"github.com/generalbots/backupd/repo"
)

// backup makes the snapshot of a job, unless a former life of this process has
// made it and was killed before it could say so.
func (j *Jobs) backup(ctx context.Context, l *live) (func(*Job), error) {
	for _, s := range j.repo.Snapshots() {
		if s.ID == l.job.ID {
			m := s.Manifest
			return func(job *Job) { job.Snapshot = &m }, nil
		}
	}
	j.mu.Lock()
	chosen, err := j.choose(l.job.Backup)
	j.mu.Unlock()
	if err != nil {
		return func(*Job) {}, err
	}
	parts, closeAll := j.openSources(ctx, chosen)
	defer closeAll()
	var prog backup.Progress
	total := j.expected(parts)
	j.watching(l, func() Progress {
		return Progress{Phase: "backup", Files: prog.Files.Load(), Bytes: prog.Bytes.Load(), BytesTotal: total, Problems: prog.Problems.Load()}
	})
	rep, err := backup.Run(ctx, j.repo, parts, backup.Options{
		ID: l.job.ID, CreatedAt: l.job.CreatedAt, Type: backup.Type(l.job.Backup.Type), Host: j.o.Host, Tags: l.job.Backup.Tags,
	}, &prog)
	if err != nil {
		return func(*Job) {}, err
	}
	for _, note := range rep.Notes {
		j.log.Info("about a backup", "job", l.job.ID, "note", note)
	}
	light := *rep.Snapshot
	light.Problems = nil
	return func(job *Job) { job.Snapshot = &light }, nil
}

// expected is what the latest snapshots of the same parts held.
func (j *Jobs) expected(parts []backup.Part) (bytesTotal int64) {
	snaps := j.repo.Snapshots()
	for i := range parts {
		for _, s := range slices.Backward(snaps) {
			if s.Host != j.o.Host {
				continue
			}
			at := slices.IndexFunc(s.Parts, func(p repo.Part) bool {
				return !p.Failed && p.Source == parts[i].Source && slices.EqualFunc(p.Paths, parts[i].Paths, bytes.Equal)
			})
			if at >= 0 {
				bytesTotal += s.Parts[at].Counts.BytesTotal
				break
			}
		}
	}
	return bytesTotal
}

var overwrites = map[string]target.Overwrite{"never": target.Never, "if-changed": target.IfChanged, "always": target.Always}

// restore brings a backup back to a target.
func (j *Jobs) restore(ctx context.Context, l *live) (func(*Job), error) {
	none := func(*Job) {}
	req := l.job.Restore
	s, err := j.snapshot(ctx, l.job.BackupID)
	if err != nil {
		return none, err
	}
	m, err := j.repo.Manifest(ctx, s)
	if err != nil {
		return none, err
	}
	where, err := j.target(req.Target)
	if err != nil {
		return none, err
	}
	o := restore.Options{Overwrite: overwrites[req.Overwrite], DryRun: req.DryRun, TargetPath: where.Path, Sources: req.Sources}
	for _, path := range req.Paths {
		o.Paths = append(o.Paths, []byte(path))
	}
	var to *target.Directory
	if !req.DryRun {
		to, err = target.OpenDirectory(where.Path, target.Options{Overwrite: o.Overwrite, Privileged: req.Privileged && os.Geteuid() == 0})
		if err != nil {
			return none, fmt.Errorf("target %s: %w", where.Name, err)
		}
		defer to.Close()
	}
	var prog restore.Progress
	j.watching(l, func() Progress {
		return Progress{
			Phase: prog.Phase().String(), Files: prog.Files.Load(), FilesTotal: prog.TotalFiles.Load(),
			Bytes: prog.Bytes.Load(), BytesTotal: prog.TotalBytes.Load(), Problems: prog.Problems.Load(),
		}
	})
	rep, err := restore.Run(ctx, j.repo, m, to, o, &prog)
	return func(job *Job) { job.RestoreReport = rep }, err
}

// verify reads again all that a backup needs, or all of the repository, and
// writes down of each backup that was read whether it can be restored. One that
// can not is an error beside the report.
func (j *Jobs) verify(ctx context.Context, l *live) (func(*Job), error) {
	var prog repo.CheckProgress
	j.watching(l, func() Progress {
		return Progress{Phase: "verify", Files: prog.Packs.Load(), FilesTotal: prog.TotalPacks.Load(), Bytes: prog.Bytes.Load(), BytesTotal: prog.TotalBytes.Load()}
	})
	snaps := j.repo.Snapshots()
	o := repo.CheckOptions{ReadData: true}
	if id := l.job.BackupID; id != "" {
		s, err := j.snapshot(ctx, id)
		if err != nil {
			return func(*Job) {}, err
		}
		snaps, o.Snapshots = []*repo.Snapshot{s}, []string{id}
	}
	rep, err := j.repo.Check(ctx, o, &prog)
	if err != nil {
		return func(*Job) {}, err
	}
	found := verdicts(l.job.ID, snaps, rep, j.now())
	if err = j.recordVerified(found); err == nil {
		err = lossOf(found)
	}
	return func(job *Job) { job.CheckReport = rep }, err
}

// collect reclaims space.
func (j *Jobs) collect(ctx context.Context, l *live) (func(*Job), error) {
	var prog repo.GCProgress
	j.watching(l, func() Progress {
		p := Progress{Phase: "gc", Bytes: prog.Moved.Load() + prog.Deleted.Load(), Files: prog.Packs.Load(), FilesTotal: prog.TotalPacks.Load()}
		if phase := prog.Phase.Load(); phase != nil {
			p.Phase = *phase
		}
		return p
	})
	rep, err := j.repo.GC(ctx, repo.GCOptions{}, &prog)
	return func(job *Job) { job.GCReport = rep }, err
}
