package job

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/generalbots/backupd/internal/state"
	"github.com/generalbots/backupd/repo"
)

// Jobs is the queue with all that belongs to it. Its methods may be called at
// the same time, also while Run runs and before it does.
//
// Locks are taken in the order timetable, admit, mu. Nothing waits for a disk
// while it holds mu, so that reading is never held up by writing.
type Jobs struct {
	o     Options
	repo  *repo.Repo
	st    *state.DB
	log   *slog.Logger
	wake  chan struct{} // of one: something may be startable
	tally tally

	patience time.Duration // how long a job waits for another process

	timetable sync.Mutex // held over every change of a schedule, so that none is lost
	admit     sync.Mutex // held by who adds a job or deletes a backup, so that what was looked at first stays true until it is written

	mu        sync.Mutex       // guards all below
	live      map[string]*live // jobs that are not over
	queue     []*live          // of them those that wait, in order
	slots     slots
	closing   bool
	sources   []Source
	targets   []Target
	backups   map[string]Job  // every backup job there is a record of, without its manifest
	unwritten map[string]Job  // jobs whose end could not be written down yet
	deleted   map[string]bool // backups that are to be forgotten and not shown any more
	expiries  map[string]state.Expiry
	verified  map[string]Verification // as the state file has them, read when first asked for
	schedules map[string]*state.Schedule
	latest    map[Kind]time.Time // when a job of a kind was last asked for; of verifications, one of all
	proven    time.Time          // when a verification of the whole repository last came to its end
	refreshed time.Time
	looking   chan struct{} // closed when the refresh that is under way has ended; nil for none
	unseen    error         // why the last refresh did not come to its end
	forgot    time.Time     // when deletions could last not be published
}

// Open reads what the daemon remembers. Jobs that were running when the
// process ended are interrupted; backups among them wait to be run again, or
// turn out to be complete.
func Open(ctx context.Context, o Options) (*Jobs, error) {
	o.Readers = cmp.Or(o.Readers, defaultReaders)
	o.Waiting = cmp.Or(o.Waiting, defaultWaiting)
	o.History = cmp.Or(o.History, defaultHistory)
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.now == nil {
		o.now = time.Now
	}
	if o.GC.Cron != "" {
		if err := CheckCron(o.GC.Cron); err != nil {
			return nil, err
		}
	}
	j := &Jobs{
		o: o, repo: o.Repo, st: o.State, log: o.Logger, wake: make(chan struct{}, 1), tally: newTally(), patience: patience,
		live: make(map[string]*live), backups: make(map[string]Job), unwritten: make(map[string]Job), deleted: make(map[string]bool),
		expiries: make(map[string]state.Expiry), verified: make(map[string]Verification), schedules: make(map[string]*state.Schedule),
		latest: make(map[Kind]time.Time), sources: slices.Clone(o.Sources), targets: slices.Clone(o.Targets),
	}
	if err := j.recall(); err != nil {
		return nil, err
	}
	return j, nil
}

// Reload replaces what the configuration names. Jobs that wait are run against
// the new sources and targets, those that run go on as they began.
func (j *Jobs) Reload(sources []Source, targets []Target) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.sources, j.targets = slices.Clone(sources), slices.Clone(targets)
}

// CreateBackup queues a backup. It is durable when this returns: whatever
// happens then, the job is run or says why not. *InvalidError, ErrClosing,
// ErrQueueFull.
func (j *Jobs) CreateBackup(ctx context.Context, r BackupRequest, by By) (Job, error) {
	return j.createBackup(r, by, j.now())
}

func (j *Jobs) createBackup(r BackupRequest, by By, now time.Time) (Job, error) {
	if err := j.checkBackup(&r); err != nil {
		return Job{}, err
	}
	id, err := j.repo.NewID(now)
	if err != nil {
		return Job{}, err
	}
	return j.enqueue(Job{ID: id, Kind: KindBackup, BackupID: id, ScheduleID: r.ScheduleID, CreatedAt: now, Backup: &r}, by)
}

func (j *Jobs) checkBackup(r *BackupRequest) error {
	r.Type = cmp.Or(r.Type, "incremental")
	if !slices.Contains(backupTypes, r.Type) {
		return &InvalidError{"type", fmt.Sprintf("%q is not one of %s", r.Type, strings.Join(backupTypes, ", "))}
	}
	if r.RetentionDays < 0 || r.RetentionDays > MaxRetentionDays {
		return &InvalidError{"retention_days", fmt.Sprintf("%d is not between 0 (keep) and %d days", r.RetentionDays, MaxRetentionDays)}
	}
	if len(r.Tags) > maxTags {
		return &InvalidError{"tags", fmt.Sprintf("%d tags, at most %d", len(r.Tags), maxTags)}
	}
	for _, tag := range r.Tags {
		if tag == "" || len(tag) > maxTagLength || !utf8.ValidString(tag) {
			return &InvalidError{"tags", fmt.Sprintf("a tag has 1 to %d bytes of UTF-8", maxTagLength)}
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	_, err := j.choose(r)
	return err
}

var backupTypes = []string{"full", "incremental", "differential"}

const (
	// MaxRetentionDays is how long a backup may be kept at most before it expires.
	MaxRetentionDays = 36_500

	maxTags      = 64
	maxTagLength = 200
)

// choose returns the sources a backup takes, in the order of the
// configuration. mu is held.
func (j *Jobs) choose(r *BackupRequest) ([]Source, error) {
	var out []Source
	for _, name := range r.Sources {
		if !slices.ContainsFunc(j.sources, func(s Source) bool { return s.Name == name }) {
			return nil, &InvalidError{"sources", fmt.Sprintf("there is no source %q; there are %s", name, names(j.sources))}
		}
	}
	for _, s := range j.sources {
		database := isDatabase(s.Kind)
		switch {
		case len(r.Sources) > 0 && !slices.Contains(r.Sources, s.Name):
		case database && !r.IncludeDatabase, !database && !r.IncludeFiles:
		default:
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		field := "sources"
		switch {
		case !r.IncludeFiles && r.IncludeDatabase:
			field = "include_database"
		case !r.IncludeDatabase:
			field = "include_files"
		}
		return nil, &InvalidError{field, "no source is left to back up; the configuration has " + names(j.sources)}
	}
	return out, nil
}

func isDatabase(kind string) bool { return kind != "files" && kind != "s3" }

func names(list []Source) string {
	if len(list) == 0 {
		return "none"
	}
	var out []string
	for _, s := range list {
		out = append(out, s.Name)
	}
	return strings.Join(out, ", ")
}

// Restore queues a restore of a backup; as durable as CreateBackup. ErrNotFound,
// *InvalidError, and *BusyError while another restore has the target.
func (j *Jobs) Restore(ctx context.Context, backupID string, r RestoreRequest, by By) (Job, error) {
	s, err := j.snapshot(ctx, backupID)
	if err != nil {
		return Job{}, err
	}
	r.Target = cmp.Or(r.Target, "staging")
	r.Overwrite = cmp.Or(r.Overwrite, "never")
	if _, ok := overwrites[r.Overwrite]; !ok {
		return Job{}, &InvalidError{"overwrite", fmt.Sprintf("%q is not one of never, if-changed, always", r.Overwrite)}
	}
	for _, name := range r.Sources {
		if !slices.ContainsFunc(s.Parts, func(p repo.Part) bool { return p.Source == name }) {
			var have []string
			for i := range s.Parts {
				have = append(have, s.Parts[i].Source)
			}
			return Job{}, &InvalidError{"sources", fmt.Sprintf("the backup has no source %q; it has %s", name, strings.Join(have, ", "))}
		}
	}
	if _, err := j.target(r.Target); err != nil {
		return Job{}, err
	}
	return j.enqueue(Job{Kind: KindRestore, BackupID: s.ID, Target: r.Target, CreatedAt: j.now(), Restore: &r}, by)
}

func (j *Jobs) target(name string) (Target, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var have []string
	for _, t := range j.targets {
		if t.Name == name {
			return t, nil
		}
		have = append(have, t.Name)
	}
	if len(have) == 0 {
		have = []string{"none"}
	}
	return Target{}, &InvalidError{"target", fmt.Sprintf("there is no target %q; the configuration has %s", name, strings.Join(have, ", "))}
}

// Verify queues a check that reads all that restoring a backup needs, and tells
// whether it can be restored. ErrNotFound.
func (j *Jobs) Verify(ctx context.Context, backupID string, by By) (Job, error) {
	s, err := j.snapshot(ctx, backupID)
	if err != nil {
		return Job{}, err
	}
	return j.enqueue(Job{Kind: KindVerify, BackupID: s.ID, CreatedAt: j.now()}, by)
}

// GC queues a garbage collection. One that waits already does for both.
func (j *Jobs) GC(ctx context.Context, by By) (Job, error) {
	return j.enqueue(Job{Kind: KindGC, CreatedAt: j.now()}, by)
}

// snapshot finds a backup that can be read. ErrNotFound only where the repository
// could be asked.
func (j *Jobs) snapshot(ctx context.Context, id string) (*repo.Snapshot, error) {
	if !repo.IsSnapshotID(id) {
		return nil, fmt.Errorf("backup %.80q: %w", id, ErrNotFound)
	}
	for again := false; ; again = true {
		j.mu.Lock()
		gone := j.deleted[id]
		l := j.live[id]
		j.mu.Unlock()
		if gone {
			return nil, fmt.Errorf("backup %s: %w: it was deleted", id, ErrNotFound)
		}
		for _, s := range j.repo.Snapshots() {
			if s.ID == id {
				return s, nil
			}
		}
		if l != nil {
			return nil, &BusyError{id, "this backup is not complete yet; wait for its end"}
		}
		if again {
			j.mu.Lock()
			unseen := j.unseen
			j.mu.Unlock()
			if unseen != nil {
				return nil, fmt.Errorf("whether there is a backup %s can not be told: %w", id, unseen)
			}
			return nil, fmt.Errorf("backup %s: %w", id, ErrNotFound)
		}
		// Another process may have made it.
		if err := j.refresh(ctx); err != nil {
			return nil, err
		}
		if err := j.looked(ctx); err != nil {
			return nil, err
		}
	}
}

// refreshEvery is how old what is known of the repository may be in a listing.
const refreshEvery = 10 * time.Second

// refresh sees what other processes wrote, at most once in refreshEvery and not
// while this one writes.
func (j *Jobs) refresh(ctx context.Context) error {
	every := refreshEvery
	if j.repo.ReadOnly() != nil {
		every = time.Second // somebody may just have mended that
	}
	j.mu.Lock()
	age := time.Since(j.refreshed)
	if j.slots.writer || j.slots.alone || j.closing || age >= 0 && age < every {
		j.mu.Unlock()
		return nil
	}
	ended := make(chan struct{})
	j.refreshed, j.looking = time.Now(), ended
	j.slots.writer = true
	j.mu.Unlock()
	err := j.repo.Refresh(ctx)
	j.mu.Lock()
	j.slots.writer, j.looking = false, nil
	switch {
	case err == nil:
		j.unseen = nil
	case ctx.Err() != nil:
		j.refreshed = time.Time{} // of this caller only
	default:
		// In words: what it wraps may say that something is not there.
		j.unseen = fmt.Errorf("the repository can not be looked into: %v", err)
		err = j.unseen
	}
	j.mu.Unlock()
	close(ended)
	j.nudge()
	return err
}

// looked waits for the end of a refresh that somebody else has begun.
func (j *Jobs) looked(ctx context.Context) error {
	j.mu.Lock()
	under := j.looking
	j.mu.Unlock()
	if under == nil {
		return nil
	}
	select {
	case <-under:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Hold keeps gc from beginning while somebody reads from the repository who has
// no job: who browses or downloads. done is to be called when that is over, and
// as often as wanted. *BusyError while a gc runs, and ErrClosing.
func (j *Jobs) Hold() (done func(), err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closing {
		return nil, ErrClosing
	}
	if j.slots.alone {
		e := &BusyError{Message: "space is being reclaimed; ask again in a moment"}
		for id, l := range j.live {
			if l.job.Kind == KindGC && l.cancel != nil {
				e.JobID = id
			}
		}
		return nil, e
	}
	j.slots.guests++
	return sync.OnceFunc(func() {
		j.mu.Lock()
		j.slots.guests--
		j.mu.Unlock()
		j.nudge()
	}), nil
}

// nudge has the runner look again.
func (j *Jobs) nudge() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// Sources are what the configuration names.
func (j *Jobs) Sources() []SourceInfo {
	j.mu.Lock()
	list := slices.Clone(j.sources)
	j.mu.Unlock()
	snaps := j.repo.Snapshots()
	now := j.now()
	out := make([]SourceInfo, len(list))
	for i, s := range list {
		out[i] = SourceInfo{Name: s.Name, Kind: s.Kind, Paths: s.Paths}
		for _, m := range slices.Backward(snaps) {
			if !ahead(m.FinishedAt, now) && slices.ContainsFunc(m.Parts, func(p repo.Part) bool { return p.Source == s.Name && !p.Failed }) {
				out[i].LastBackup, out[i].LastSuccess = m.ID, m.FinishedAt
				break
			}
		}
	}
	return out
}

// Targets are the places restores can go to.
func (j *Jobs) Targets() []TargetInfo {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := make([]TargetInfo, len(j.targets))
	for i, t := range j.targets {
		out[i] = TargetInfo{Name: t.Name, Path: t.Path}
		if l := j.restoring(t.Name); l != nil {
			out[i].BusyWith = l.job.ID
		}
	}
	return out
}

// restoring finds the restore that has a target. mu is held.
func (j *Jobs) restoring(target string) *live {
	for _, l := range j.live {
		if l.job.Kind == KindRestore && l.job.Target == target && !l.job.Restore.DryRun {
			return l
		}
	}
	return nil
}
