package job

import (
	"context"
	"time"
)

// NextRun is the next time of an expression behind t.
func NextRun(expr string, t time.Time, zone *time.Location) (time.Time, error) {
	fields, err := fieldsOf(expr)
	if err != nil {
		return time.Time{}, err
	}
	return nextRun(fields, t, zone), nil
}

// Expired chooses what may be forgotten.
func Expired(list []Backup, now time.Time, minimum, recent int) []string {
	return expired(list, now, minimum, recent)
}

// ExpiryLeast and ExpiryShare bound what expires in a day.
const (
	ExpiryLeast = expiryLeast
	ExpiryShare = expiryShare
)

// Scheduler is who expires backups.
const Scheduler = scheduler

// Slots are who is at work.
type Slots struct{ s slots }

// Busy tells who is.
func (s *Slots) Busy() (writer, alone, verifying bool, restores, guests int) {
	return s.s.writer, s.s.alone, s.s.verifying, s.s.restores, s.s.guests
}

// Guest comes or goes.
func (s *Slots) Guest(n int) { s.s.guests += n }

// Take begins the job of a queue that may, and returns its place, -1 for none.
func (s *Slots) Take(queue []Kind, restores int) int {
	list := make([]*live, len(queue))
	for i, k := range queue {
		list[i] = &live{job: Job{Kind: k}}
	}
	at, _ := s.s.choose(list, restores, time.Now())
	if at >= 0 {
		s.s.take(queue[at])
	}
	return at
}

// Release ends a job.
func (s *Slots) Release(k Kind) { s.s.release(k) }

// Due runs schedules as of a time.
func (j *Jobs) Due(now time.Time) time.Time { return j.due(now) }

// Look does the upkeep of a minute.
func (j *Jobs) Look(ctx context.Context, now time.Time) {
	var short time.Time
	j.look(ctx, now, &short)
}

// CollectDue tells whether gc is due.
func (j *Jobs) CollectDue(ctx context.Context, now time.Time) bool {
	var short time.Time
	return j.collectDue(ctx, now, &short)
}

// VerifyDue tells whether a verification is due.
func (j *Jobs) VerifyDue(now time.Time) bool { return j.verifyDue(now) }

// Hurried is a context that ends some time after another does.
func Hurried(ctx context.Context) (context.Context, context.CancelFunc) { return hurried(ctx) }

// Hurry is that time.
const Hurry = hurry

// Pace is how fast a job goes.
type Pace struct{ p speed }

// Rate is bytes a second.
func (p *Pace) Rate(bytes int64) float64 { return p.p.rate(bytes) }

// Patience is how long a job waits for another process.
const Patience = patience

// RunAlone is Run without upkeep, which is the test's to call.
func (j *Jobs) RunAlone(ctx context.Context) error {
	return j.run(ctx, func(context.Context) {})
}

// Idle tells whether all jobs are over.
func (j *Jobs) Idle() bool { j.mu.Lock(); defer j.mu.Unlock(); return len(j.live) == 0 }

// Now is the time by which upkeep goes.
func (j *Jobs) Now() time.Time { return j.now() }

// SetClock has another clock on the wall. For Open.
func SetClock(o *Options, now func() time.Time) { o.now = now }

// SetPatience has it wait less, or more. Before Run.
func (j *Jobs) SetPatience(d time.Duration) { j.patience = d }

// TakeAlone has the repository taken as a gc takes it, until ReleaseAlone.
func (j *Jobs) TakeAlone() { j.mu.Lock(); j.slots.take(KindGC); j.mu.Unlock() }

// ReleaseAlone gives it back.
func (j *Jobs) ReleaseAlone() { j.release(KindGC); j.nudge() }

// Forgetful has the next look-up look at the repository again.
func (j *Jobs) Forgetful() { j.mu.Lock(); j.refreshed = time.Time{}; j.mu.Unlock() }
