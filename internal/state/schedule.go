package state

import "time"

// Schedule is work that comes back, and how it went last.
type Schedule struct {
	ID       string `json:"id"`
	Name     string `json:"name,omitempty"`
	Cron     string `json:"cron,omitempty"`
	Type     string `json:"type,omitempty"`
	Timezone string `json:"timezone,omitempty"`

	IncludeFiles    *bool    `json:"include_files,omitempty"` // nil: not said
	IncludeDatabase *bool    `json:"include_database,omitempty"`
	Sources         []string `json:"sources,omitempty"`
	Tags            []string `json:"tags,omitempty"`
	RetentionDays   int      `json:"retention_days,omitempty"`
	Enabled         bool     `json:"enabled,omitempty"`
	Paused          bool     `json:"paused,omitempty"`
	Actor           string   `json:"actor,omitempty"` // who made it

	CreatedAt time.Time `json:"created_at,omitzero"`
	UpdatedAt time.Time `json:"updated_at,omitzero"`
	LastRun   time.Time `json:"last_run,omitzero"` // when it last began
	LastDue   time.Time `json:"last_due,omitzero"` // the time of the schedule that run was for

	LastStatus   string `json:"last_status,omitempty"`
	LastBackupID string `json:"last_backup_id,omitempty"`
	LastJobID    string `json:"last_job_id,omitempty"`
}

var scheduleKind = kind[Schedule]{bucket: "schedules", name: "schedule", version: 1}

func (s *Schedule) check() error {
	var l limits
	l.id("id", s.ID)
	l.texts("name", s.Name, "cron", s.Cron, "type", s.Type, "timezone", s.Timezone, "actor", s.Actor,
		"last_status", s.LastStatus, "last_backup_id", s.LastBackupID, "last_job_id", s.LastJobID)
	l.list("sources", s.Sources)
	l.list("tags", s.Tags)
	l.times(&s.CreatedAt, &s.UpdatedAt, &s.LastRun, &s.LastDue)
	return l.err
}

// PutSchedule writes a schedule, new or changed.
func (tx *Tx) PutSchedule(s Schedule) error {
	if err := s.check(); err != nil {
		return err
	}
	return store(tx, scheduleKind, []byte(s.ID), &s)
}

// Schedule reads one schedule; ErrNotFound.
func (tx *Tx) Schedule(id string) (Schedule, error) {
	s, err := load(tx, scheduleKind, []byte(id))
	if err != nil {
		return Schedule{}, err
	}
	return *s, nil
}

// Schedules lists all of them by id.
func (tx *Tx) Schedules() ([]Schedule, error) { return all(tx, scheduleKind) }

// DeleteSchedule forgets a schedule; ErrNotFound.
func (tx *Tx) DeleteSchedule(id string) error {
	if _, err := load(tx, scheduleKind, []byte(id)); err != nil {
		return err
	}
	return tx.remove(scheduleKind.bucket, []byte(id))
}

// PutSchedule writes a schedule, new or changed.
func (db *DB) PutSchedule(s Schedule) error {
	return db.Update(func(tx *Tx) error { return tx.PutSchedule(s) })
}

// Schedule reads one schedule; ErrNotFound.
func (db *DB) Schedule(id string) (Schedule, error) {
	return view(db, func(tx *Tx) (Schedule, error) { return tx.Schedule(id) })
}

// Schedules lists all of them by id.
func (db *DB) Schedules() ([]Schedule, error) { return view(db, (*Tx).Schedules) }

// DeleteSchedule forgets a schedule; ErrNotFound.
func (db *DB) DeleteSchedule(id string) error {
	return db.Update(func(tx *Tx) error { return tx.DeleteSchedule(id) })
}
