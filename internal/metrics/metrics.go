package metrics

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Build says which program this is.
type Build struct {
	Version, Commit, Go string
}

// Options say what the metrics speak of.
type Options struct {
	Build Build
	// Read tells how things stand. It is called by the handler, never twice at the
	// same time and at most once in Every; nil leaves those metrics out.
	Read  func() Facts
	Every time.Duration // 0 is 15 s
}

// Metrics counts. Its methods return at once and may be called concurrently.
type Metrics struct {
	handler  http.Handler
	jobs     *prometheus.CounterVec
	took     *prometheus.HistogramVec
	read     prometheus.Counter
	fresh    prometheus.Counter
	stored   prometheus.Counter
	problems prometheus.Counter
	waiting  prometheus.Gauge
	running  prometheus.Gauge
	requests *prometheus.HistogramVec
}

const defaultEvery = 15 * time.Second

// New makes metrics that have counted nothing.
func New(o Options) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &Metrics{
		jobs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "backupd_jobs_total", Help: "Jobs that are over, by kind and the state they ended in.",
		}, []string{"kind", "state"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "backupd_job_duration_seconds", Help: "How long jobs ran, by kind.",
			Buckets: []float64{1, 5, 15, 60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 24 * 3600},
		}, []string{"kind"}),
		read:     counter("backupd_backup_read_bytes_total", "Bytes that backups read from their sources."),
		fresh:    counter("backupd_backup_new_bytes_total", "Bytes of content that backups found new, before compression."),
		stored:   counter("backupd_backup_stored_bytes_total", "Bytes by which backups made the repository grow."),
		problems: counter("backupd_backup_problems_total", "Problems that backups noted, such as files that could not be read."),
		waiting:  gauge("backupd_jobs_waiting", "Jobs that wait for their turn."),
		running:  gauge("backupd_jobs_running", "Jobs that run."),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "backupd_http_request_duration_seconds", Help: "How long requests took, by route, method and status code.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"route", "method", "code"}),
	}
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "backupd_build_info", Help: "Always 1; the labels say which program this is.",
		ConstLabels: prometheus.Labels{"version": o.Build.Version, "commit": o.Build.Commit, "go_version": o.Build.Go},
	}, func() float64 { return 1 })
	r := prometheus.NewRegistry()
	r.MustRegister(m.jobs, m.took, m.read, m.fresh, m.stored, m.problems, m.waiting, m.running, m.requests, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if o.Read != nil {
		if o.Every == 0 {
			o.Every = defaultEvery
		}
		r.MustRegister(&factsCollector{read: o.Read, every: o.Every})
	}
	m.handler = promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
	return m
}

// Handler shows the metrics. It asks nobody who they are: that is for whoever routes to it.
func (m *Metrics) Handler() http.Handler { return m.handler }

// JobDone counts a job that is over. took is 0 for one that never began.
func (m *Metrics) JobDone(kind, state string, took time.Duration) {
	m.jobs.WithLabelValues(kind, state).Inc()
	if took > 0 {
		m.took.WithLabelValues(kind).Observe(took.Seconds())
	}
}

// Backup is what a backup that made a snapshot did.
type Backup struct {
	BytesRead, BytesNew, BytesStored int64
	Problems                         int64
}

// BackupDone counts what a backup did.
func (m *Metrics) BackupDone(b Backup) {
	add := func(c prometheus.Counter, n int64) { c.Add(float64(max(n, 0))) }
	add(m.read, b.BytesRead)
	add(m.fresh, b.BytesNew)
	add(m.stored, b.BytesStored)
	add(m.problems, b.Problems)
}

// Queue notes how many jobs wait and how many run.
func (m *Metrics) Queue(waiting, running int) {
	m.waiting.Set(float64(waiting))
	m.running.Set(float64(running))
}

// Request counts an answered request. route is the pattern that was matched, of
// which there are few, never the path that was asked for.
func (m *Metrics) Request(route, method string, code int, took time.Duration) {
	m.requests.WithLabelValues(route, known(method), strconv.Itoa(code)).Observe(took.Seconds())
}

// known is the method, or "other": clients must not be able to make new series.
func known(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}
