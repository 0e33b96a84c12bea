package config

import "time"

// A defaulter is a section that does not start out empty. The decoder asks before
// it fills the section, so that a 0 that stands in the file stays one.
type defaulter interface{ setDefaults() }

func (c *Config) setDefaults() {
	*c = Config{
		Listen:            "127.0.0.1:9000",
		SchedulesTimezone: "UTC",
		GC:                GC{Schedule: "@daily", MinFree: 1 << 30},
		Retention:         Retention{Minimum: 3},
		Verify:            Verify{AfterBackup: true, Every: 7 * 24 * time.Hour},
		Limits: Limits{
			Connections:           2048,
			BodySize:              1 << 20,
			RequestsPerSecond:     50,
			AuthFailuresPerMinute: 10,
			QueuedJobs:            1000,
			ParallelRestores:      2,
			JobHistory:            365 * 24 * time.Hour,
			Nice:                  10,
			IOClass:               "lowest",
		},
		Memory: 1 << 30,
		Log:    Log{Level: "info", Format: "text"},
	}
}

func (h *Hooks) setDefaults() { h.Timeout = 10 * time.Minute }

func (j *JWT) setDefaults() {
	j.Issuer = "general-bots"
	j.Audience = "general-bots-api"
}

func (p *PostgresTarget) setDefaults() { p.Prefix = "restored_" }

// profile is the default of a source, which depends on its kind.
func (s *Source) profile() string {
	if s.Kind == KindSQLite || s.Kind == KindPostgres {
		return "database"
	}
	return "files"
}
