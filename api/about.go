package api

import (
	"net/http"
	"sync"
	"time"

	openapi "github.com/generalbots/backupd/docs/api"
	"github.com/generalbots/backupd/internal/job"
)

// GET /sources
func listSources(c *call) (answer, error) {
	if err := c.query().end(); err != nil {
		return answer{}, err
	}
	sources := c.s.o.Jobs.Sources()
	c.total(len(sources))
	return answer{http.StatusOK, each(sources, func(s *job.SourceInfo) Source {
		return Source{s.Name, s.Kind, list(s.Paths), opt(s.LastBackup), optTime(s.LastSuccess)}
	})}, nil
}

// GET /targets
func listTargets(c *call) (answer, error) {
	if err := c.query().end(); err != nil {
		return answer{}, err
	}
	targets := c.s.o.Jobs.Targets()
	c.total(len(targets))
	return answer{http.StatusOK, each(targets, func(t *job.TargetInfo) Target { return Target{t.Name, t.Path, opt(t.BusyWith)} })}, nil
}

// statsLast is how old an answer of /stats may be.
const statsLast = 5 * time.Second

// countFor is how long a call waits for packs and trees to be counted.
const countFor = 10 * time.Second

// statsCache has one call at a time count.
type statsCache struct {
	mu    sync.Mutex // guards the rest, over the counting
	stats Stats
}

// GET /stats
func showStats(c *call) (answer, error) {
	if err := c.query().end(); err != nil {
		return answer{}, err
	}
	st, err := c.counted()
	if err != nil {
		return answer{}, err
	}
	// Counting what the packs hold takes time the first time after a change. Who
	// finds no place to wait gets what there is.
	limit := time.Duration(0)
	if c.linger() {
		limit = countFor
	}
	ctx, cancel := c.context(limit)
	defer cancel()
	if r, err := c.s.o.Jobs.Stats(ctx); err == nil {
		st.Repository = &RepositoryStats{
			At: r.At.UTC(), Packs: r.Repo.Packs, PackBytes: r.Repo.PackBytes, Blocks: r.Repo.Blocks, DeltaBlocks: r.Repo.DeltaBlocks,
			Chunks: r.Repo.Chunks, ChunkBytes: r.Repo.ChunkBytes, UsedBytes: r.Repo.UsedBytes, DeadBytes: r.Repo.DeadBytes,
		}
	} else {
		c.s.log.Debug("what the packs hold is not known", "request_id", c.id, "error", err)
	}
	return answer{http.StatusOK, st}, nil
}

// counted is what count says, or said a moment ago.
func (c *call) counted() (Stats, error) {
	cache := &c.s.stats
	cache.mu.Lock()
	defer cache.mu.Unlock()
	if age := time.Since(cache.stats.At); age >= 0 && age < statsLast {
		return cache.stats, nil
	}
	st, err := c.count()
	if err != nil {
		return Stats{}, err
	}
	cache.stats = st
	return st, nil
}

// count goes through what is known of all backups, without reading any.
func (c *call) count() (Stats, error) {
	s := c.s
	st := Stats{
		At: time.Now().UTC(), RepositoryID: s.o.Repo.ID().String(), Deleted: len(s.o.Repo.Forgotten()), Warnings: list(s.o.Repo.Warnings()),
	}
	backups, _, err := s.o.Jobs.Backups(c.r.Context(), job.Filter{})
	if err != nil {
		return Stats{}, err
	}
	var oldest, latest time.Time
	for i := range backups {
		b := &backups[i]
		if b.Manifest == nil {
			continue
		}
		st.Backups++
		st.LogicalBytes += b.Size
		st.StoredBytes += b.Stored
		switch b.Verification.State {
		case job.Unverified:
			st.Unverified++
		case job.VerificationFailed:
			st.VerifyFailed++
		}
		if b.State == job.CompletedWithProblems {
			st.WithProblems++
		}
		if b.FinishedAt.After(latest) {
			latest = b.FinishedAt
		}
		if oldest.IsZero() || b.FinishedAt.Before(oldest) {
			oldest = b.FinishedAt
		}
	}
	st.Latest, st.Oldest = optTime(latest), optTime(oldest)
	schedules, err := s.o.Jobs.Schedules()
	if err != nil {
		return Stats{}, err
	}
	st.Schedules = len(schedules)
	// A store may not know its room; that is no reason to tell nothing.
	if space, err := s.o.Repo.Space(c.r.Context()); err == nil && space.Total > 0 {
		st.DiskFreeBytes, st.DiskTotalBytes = &space.Free, &space.Total
	}
	return st, nil
}

// GET /health and /healthz: the process answers.
func showHealth(c *call) (answer, error) {
	return answer{http.StatusOK, c.s.health("ok")}, nil
}

// GET /api/health: whether it can do its work.
func showCondition(c *call) (answer, error) {
	if c.s.o.Degraded != nil {
		if err := c.s.o.Degraded(); err != nil {
			return answer{http.StatusServiceUnavailable, c.s.health("degraded")}, nil
		}
	}
	return answer{http.StatusOK, c.s.health("healthy")}, nil
}

func (s *Server) health(status string) Health {
	return Health{status, "backupd", s.o.Version, s.o.Commit}
}

// GET /openapi.yaml
func showOpenAPI(c *call) (answer, error) {
	c.w.Header().Set("Content-Type", "application/yaml")
	c.w.Header().Set("Cache-Control", "no-cache")
	_, _ = c.w.Write(openapi.YAML) // a client that went away has no use for an error
	return answer{}, nil
}

// GET /metrics
func showMetrics(c *call) (answer, error) {
	c.s.o.Metrics.ServeHTTP(c.w, c.r)
	return answer{}, nil
}
