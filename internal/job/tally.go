package job

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/generalbots/backupd/internal/store"
	"github.com/generalbots/backupd/repo"
)

// Stats is what the repository holds and takes, and how old that knowledge is.
type Stats struct {
	Repo  *repo.Stats // shared: not to be changed
	At    time.Time   // when it was computed
	Space store.Space // of the file system now; zero when it can not be told
}

// tally computes statistics, one at a time.
type tally struct {
	turn chan struct{} // of one: who has put something in computes
	last atomic.Pointer[counted]
}

// counted is the last result and what it was made of.
type counted struct {
	stats *repo.Stats
	at    time.Time
	snaps int
	last  string // id of the newest snapshot
}

func newTally() tally { return tally{turn: make(chan struct{}, 1)} }

// statsAge is how old statistics may be at most when they are given.
const statsAge = 10 * time.Minute

// Stats returns what the repository holds. Computing that reads all trees, so it
// is done anew only when snapshots came or went or ten minutes have passed, and
// once for all who ask meanwhile. Where ctx ends first, or gc runs, it is the
// last result however old; At tells. *BusyError, or the error of ctx, when there
// is none.
func (j *Jobs) Stats(ctx context.Context) (Stats, error) {
	c, err := j.count(ctx)
	if err != nil {
		if c = j.tally.last.Load(); c == nil {
			return Stats{}, err
		}
	}
	out := Stats{Repo: c.stats, At: c.at}
	if space, err := j.repo.Space(ctx); err == nil {
		out.Space = space
	}
	return out, nil
}

func (j *Jobs) count(ctx context.Context) (*counted, error) {
	select {
	case j.tally.turn <- struct{}{}:
		defer func() { <-j.tally.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	snaps := j.repo.Snapshots()
	is := counted{at: time.Now(), snaps: len(snaps)}
	if len(snaps) > 0 {
		is.last = snaps[len(snaps)-1].ID
	}
	if was := j.tally.last.Load(); was != nil && was.snaps == is.snaps && was.last == is.last {
		if age := is.at.Sub(was.at); age >= 0 && age < statsAge {
			return was, nil
		}
	}
	done, err := j.Hold()
	if err != nil {
		return nil, err
	}
	defer done()
	if is.stats, err = j.repo.Stats(ctx, nil); err != nil {
		return nil, err
	}
	j.tally.last.Store(&is)
	return &is, nil
}
