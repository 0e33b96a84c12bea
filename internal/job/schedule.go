package job

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/generalbots/backupd/internal/state"
)

// maxSchedules and maxScheduleName bound what is kept.
const (
	maxSchedules    = 1000
	maxScheduleName = 100
)

// CreateSchedule makes a schedule. It begins with the next time it names;
// *InvalidError.
func (j *Jobs) CreateSchedule(ctx context.Context, c ScheduleChange, by By) (Schedule, error) {
	if c.Cron == nil {
		return Schedule{}, &InvalidError{"cron", `none is given; give five fields such as "0 2 * * *", or @daily`}
	}
	now := j.now().UTC()
	id, err := j.repo.NewID(now)
	if err != nil {
		return Schedule{}, err
	}
	s := state.Schedule{
		ID: "schedule" + strings.TrimPrefix(id, string(KindBackup)), Type: "incremental", Timezone: j.o.Zone.String(),
		Enabled: true, Actor: by.Actor, CreatedAt: now, LastDue: now,
	}
	j.timetable.Lock()
	defer j.timetable.Unlock()
	j.mu.Lock()
	full := len(j.schedules) >= maxSchedules
	j.mu.Unlock()
	if full {
		return Schedule{}, &InvalidError{"cron", fmt.Sprintf("there are %d schedules already, at most that many", maxSchedules)}
	}
	return j.putSchedule(s, c, by)
}

// UpdateSchedule changes one. ErrNotFound, *InvalidError.
func (j *Jobs) UpdateSchedule(ctx context.Context, id string, c ScheduleChange, by By) (Schedule, error) {
	j.timetable.Lock()
	defer j.timetable.Unlock()
	s, err := j.schedule(id)
	if err != nil {
		return Schedule{}, err
	}
	if c.Cron != nil || c.Timezone != nil || c.Enabled != nil && *c.Enabled && !s.Enabled {
		// What was missed under other times, or while it was paused, is not
		// caught up.
		s.LastDue = j.now().UTC()
	}
	return j.putSchedule(s, c, by)
}

func (j *Jobs) schedule(id string) (state.Schedule, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s, ok := j.schedules[id]
	if !ok {
		return state.Schedule{}, fmt.Errorf("schedule %.80q: %w", id, ErrNotFound)
	}
	return *s, nil
}

// putSchedule makes the changes. timetable is held.
func (j *Jobs) putSchedule(s state.Schedule, c ScheduleChange, by By) (Schedule, error) {
	set(&s.Name, c.Name)
	set(&s.Cron, c.Cron)
	set(&s.Type, c.Type)
	set(&s.Timezone, c.Timezone)
	if c.IncludeFiles != nil {
		s.IncludeFiles = c.IncludeFiles
	}
	if c.IncludeDatabase != nil {
		s.IncludeDatabase = c.IncludeDatabase
	}
	set(&s.Sources, c.Sources)
	set(&s.Tags, c.Tags)
	set(&s.RetentionDays, c.RetentionDays)
	set(&s.Enabled, c.Enabled)
	s.UpdatedAt = j.now().UTC()
	if err := CheckCron(s.Cron); err != nil {
		return Schedule{}, &InvalidError{"cron", err.Error()}
	}
	if _, err := time.LoadLocation(s.Timezone); err != nil || s.Timezone == "Local" {
		return Schedule{}, &InvalidError{"timezone", fmt.Sprintf("%q is no time zone; give UTC or one such as Europe/Berlin", s.Timezone)}
	}
	if len(s.Name) > maxScheduleName || !utf8.ValidString(s.Name) {
		return Schedule{}, &InvalidError{"name", fmt.Sprintf("it is longer than %d bytes, or no UTF-8", maxScheduleName)}
	}
	r := requestOf(&s)
	if err := j.checkBackup(&r); err != nil {
		return Schedule{}, err
	}
	err := j.st.Update(func(tx *state.Tx) error {
		if by.Also != nil {
			if err := by.Also(tx, Job{ID: s.ID}); err != nil {
				return err
			}
		}
		return tx.PutSchedule(s)
	})
	if err != nil {
		return Schedule{}, fmt.Errorf("the schedule was not written down: %w", err)
	}
	j.mu.Lock()
	j.schedules[s.ID] = &s
	j.mu.Unlock()
	return j.Schedule(s.ID)
}

func set[T any](dst, src *T) {
	if src != nil {
		*dst = *src
	}
}

// DeleteSchedule removes one. What it has made stays, and what it has asked for is
// asked for: a run that waits goes on as it was asked for, also when the schedule is
// changed or disabled, and is cancelled by its id. ErrNotFound.
func (j *Jobs) DeleteSchedule(ctx context.Context, id string) error {
	j.timetable.Lock()
	defer j.timetable.Unlock()
	if _, err := j.schedule(id); err != nil {
		return err
	}
	if err := j.st.DeleteSchedule(id); err != nil && !errors.Is(err, state.ErrNotFound) {
		return err
	}
	j.mu.Lock()
	delete(j.schedules, id)
	j.mu.Unlock()
	return nil
}

// Schedules returns all, oldest first.
func (j *Jobs) Schedules() ([]Schedule, error) {
	list := j.timetabled()
	now := j.now()
	j.mu.Lock()
	defer j.mu.Unlock()
	good := make(map[string]time.Time, len(list))
	for _, job := range j.backups {
		if job.FinishedAt.After(good[job.ScheduleID]) && !ahead(job.FinishedAt, now) && j.good(&job) {
			good[job.ScheduleID] = job.FinishedAt
		}
	}
	out := make([]Schedule, 0, len(list))
	for _, s := range list {
		out = append(out, j.shown(s, now, good[s.ID]))
	}
	return out, nil
}

// timetabled copies all schedules, oldest first.
func (j *Jobs) timetabled() []state.Schedule {
	j.mu.Lock()
	list := make([]state.Schedule, 0, len(j.schedules))
	for _, s := range j.schedules {
		list = append(list, *s)
	}
	j.mu.Unlock()
	slices.SortFunc(list, func(a, b state.Schedule) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Schedule returns one. ErrNotFound.
func (j *Jobs) Schedule(id string) (Schedule, error) {
	s, err := j.schedule(id)
	if err != nil {
		return Schedule{}, err
	}
	now := j.now()
	j.mu.Lock()
	defer j.mu.Unlock()
	var good time.Time
	for _, job := range j.backups {
		if job.ScheduleID == id && job.FinishedAt.After(good) && !ahead(job.FinishedAt, now) && j.good(&job) {
			good = job.FinishedAt
		}
	}
	return j.shown(s, now, good), nil
}

// good tells whether a backup succeeded, and was not found damaged since. mu is held.
func (j *Jobs) good(job *Job) bool {
	return job.succeeded() && j.verification(job.ID).State != VerificationFailed
}

func (job *Job) succeeded() bool { return job.State == Completed || job.State == CompletedWithProblems }

// shown is a schedule with what is known of its runs. mu is held.
func (j *Jobs) shown(s state.Schedule, now, good time.Time) Schedule {
	out := Schedule{
		ID: s.ID, Name: s.Name, Cron: s.Cron, Type: s.Type, Timezone: s.Timezone,
		IncludeFiles: unlessFalse(s.IncludeFiles), IncludeDatabase: unlessFalse(s.IncludeDatabase), Sources: s.Sources, Tags: s.Tags,
		RetentionDays: s.RetentionDays, Enabled: s.Enabled, CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt,
		LastRun: s.LastRun, LastBackupID: s.LastBackupID, LastSuccess: good,
	}
	if s.Enabled {
		out.NextRun = next(&s, now)
	}
	if job, ok := j.backups[s.LastBackupID]; ok {
		out.LastStatus = string(job.State)
	}
	return out
}

// next is when a schedule comes after now. What is written down was checked.
func next(s *state.Schedule, now time.Time) time.Time {
	fields, err := fieldsOf(s.Cron)
	if err != nil {
		return time.Time{}
	}
	zone, err := time.LoadLocation(s.Timezone)
	if err != nil {
		return time.Time{}
	}
	return nextRun(fields, now, zone)
}

// unlessFalse is the value of a choice that is true where nothing was said.
func unlessFalse(b *bool) bool { return b == nil || *b }

func requestOf(s *state.Schedule) BackupRequest {
	return BackupRequest{
		Type: s.Type, IncludeFiles: unlessFalse(s.IncludeFiles), IncludeDatabase: unlessFalse(s.IncludeDatabase),
		Sources: s.Sources, Tags: s.Tags, RetentionDays: s.RetentionDays, ScheduleID: s.ID,
	}
}

// due queues a backup for every schedule whose time has come. Whatever was
// missed, while the daemon was down or asleep, is caught up by one run; a
// schedule whose last run is not over yet is passed over. It returns when the
// next one comes.
func (j *Jobs) due(now time.Time) (earliest time.Time) {
	for _, s := range j.timetabled() {
		if !s.Enabled {
			continue
		}
		if ahead(s.LastDue, now) {
			j.setBack(s.ID, now)
			s.LastDue = now
		}
		at := next(&s, s.LastDue)
		if !at.IsZero() && !at.After(now) {
			j.launch(s.ID, now)
			at = next(&s, now)
		}
		if !at.IsZero() && (earliest.IsZero() || at.Before(earliest)) {
			earliest = at
		}
	}
	return earliest
}

// setBack has a schedule go on from now whose last run lies in the future.
func (j *Jobs) setBack(id string, now time.Time) {
	j.timetable.Lock()
	defer j.timetable.Unlock()
	s, err := j.schedule(id)
	if err != nil || !ahead(s.LastDue, now) {
		return
	}
	j.log.Warn("the clock went back: a schedule goes on from now", "schedule", id, "last_run", s.LastDue)
	s.LastDue = now.UTC()
	if ahead(s.UpdatedAt, now) {
		s.UpdatedAt = s.LastDue // or it is not overdue before that time comes
	}
	if err := j.st.PutSchedule(s); err != nil {
		j.log.Error("a schedule could not be written down", "schedule", id, "error", err)
	}
	j.replace(&s)
}

// launch queues the backup of a schedule and moves the schedule on, both or
// neither.
func (j *Jobs) launch(id string, now time.Time) {
	j.timetable.Lock()
	defer j.timetable.Unlock()
	s, err := j.schedule(id)
	if err != nil || !s.Enabled {
		return // changed a moment ago
	}
	if at := next(&s, s.LastDue); at.IsZero() || at.After(now) {
		return
	}
	s.LastDue = now.UTC()
	j.mu.Lock()
	l := j.live[s.LastBackupID]
	j.mu.Unlock()
	if l != nil {
		j.log.Warn("a schedule is passed over, as its last backup is not over yet", "schedule", s.ID, "backup", s.LastBackupID)
	} else {
		s.LastRun = now.UTC()
		job, err := j.createBackup(requestOf(&s), By{Actor: "schedule", Also: func(tx *state.Tx, job Job) error {
			s.LastBackupID = job.ID
			return tx.PutSchedule(s)
		}}, now)
		if err == nil {
			j.replace(&s)
			j.log.Info("a schedule asks for a backup", "schedule", s.ID, "backup", job.ID)
			j.acted(Act{Actor: "schedule", Action: "backup.create", Resource: job.ID, Detail: s.ID})
			return
		}
		j.log.Error("a scheduled backup could not be queued", "schedule", s.ID, "error", err)
		var invalid *InvalidError
		if !errors.As(err, &invalid) {
			return // tried again in a moment
		}
	}
	if err := j.st.PutSchedule(s); err != nil {
		j.log.Error("a schedule could not be written down", "schedule", s.ID, "error", err)
	}
	j.replace(&s)
}

// replace shows a schedule as it is now. timetable is held.
func (j *Jobs) replace(s *state.Schedule) {
	j.mu.Lock()
	j.schedules[s.ID] = s
	j.mu.Unlock()
}
