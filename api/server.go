package api

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/generalbots/backupd/internal/auth"
	"github.com/generalbots/backupd/internal/job"
	"github.com/generalbots/backupd/internal/state"
	"github.com/generalbots/backupd/repo"
)

// Options are what a Server works with. Jobs, Repo, State, Auth and Audit are needed.
type Options struct {
	Jobs  *job.Jobs
	Repo  *repo.Repo
	State *state.DB
	Auth  *auth.Authenticator
	Audit AuditLog

	Metrics  http.Handler // nil: there is no /metrics
	Observer Observer     // nil: nobody counts
	// Degraded says what is wrong with the daemon as a whole, and nil when
	// nothing is. It returns at once. Its words are for the log, not the client.
	Degraded func() error

	Version, Commit string
	Logger          *slog.Logger
	TLS             *tls.Config // nil: HTTP/1.1 in clear, for loopback and Unix sockets

	Connections     int // at the same time, over one listener; 0 for 2048
	PeerConnections int // of them of one address that is not of this host, an IPv6 network of 64 bits counting as one; 0 for a quarter
	InFlight        int // calls at the same time; 0 for 512
	Long            int // of them streams and calls that wait; 0 for 64

	BodySize          int64 // of a request at most, in bytes; 0 for 1 MiB
	RequestsPerSecond int   // of one principal at one address, twice as many at once; 0: no limit

	// Timeouts are as the zero value says unless a test changes them.
	Timeouts Timeouts
}

// Timeouts bound what a client may take. Zero fields stand for the default.
type Timeouts struct {
	Header time.Duration // to send the header: 5 s
	Read   time.Duration // to send all of a request: 15 s
	Write  time.Duration // to take an answer, or the next piece of a stream: 30 s
	Idle   time.Duration // between two requests: 60 s
	Drain  time.Duration // to end when the server does: 10 s
	Beat   time.Duration // between signs of life in a stream of events: 15 s
	Queue  time.Duration // that a call waits when too many are under way: 250 ms
}

// AuditLog is where changes and denials are written down. *auth.Audit is one.
type AuditLog interface {
	// Append returns when the record is durable.
	Append(auth.Record) error
}

// Observer is told of every call. Its methods return at once.
type Observer interface {
	// Request is told the pattern of the route, never the path; "" for a path
	// no route has.
	Request(pattern, method string, status int, took time.Duration)
}

const (
	maxHeaderBytes = 16 << 10
	maxStreams     = 100 // of one HTTP/2 connection
)

// Server answers the Backup API.
type Server struct {
	o       Options
	log     *slog.Logger
	handler http.Handler
	origin  *http.CrossOriginProtection
	short   chan struct{} // a place for each call
	long    chan struct{} // and for each that takes its time
	stats   statsCache
	pacer   *pacer // nil: nobody is limited

	drain context.Context // ends when the server is to end: streams and waits end with it
	stop  context.CancelFunc
}

// New makes a server. It listens to nothing before Serve.
func New(o Options) (*Server, error) {
	if o.Jobs == nil || o.Repo == nil || o.State == nil || o.Auth == nil || o.Audit == nil {
		return nil, errors.New("internal error: a server without jobs, repository, state, authenticator or audit log")
	}
	o.Connections = cmp.Or(o.Connections, 2048)
	o.PeerConnections = cmp.Or(o.PeerConnections, max(1, o.Connections/4))
	o.InFlight = cmp.Or(o.InFlight, 512)
	o.Long = cmp.Or(o.Long, 64)
	o.BodySize = cmp.Or(o.BodySize, defaultBody)
	t := &o.Timeouts
	t.Header = cmp.Or(t.Header, 5*time.Second)
	t.Read = cmp.Or(t.Read, 15*time.Second)
	t.Write = cmp.Or(t.Write, 30*time.Second)
	t.Idle = cmp.Or(t.Idle, 60*time.Second)
	t.Drain = cmp.Or(t.Drain, 10*time.Second)
	t.Beat = cmp.Or(t.Beat, 15*time.Second)
	t.Queue = cmp.Or(t.Queue, 250*time.Millisecond)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		o: o, log: o.Logger, origin: http.NewCrossOriginProtection(),
		short: make(chan struct{}, o.InFlight), long: make(chan struct{}, o.Long), pacer: newPacer(o.RequestsPerSecond),
	}
	s.drain, s.stop = context.WithCancel(context.Background())
	s.handler = s.router()
	return s, nil
}

// ServeHTTP answers one request. Serve sets the limits that belong to connections.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Serve answers what comes in over a listener until ctx ends. Then it takes
// nothing new, ends streams and waits, gives what is under way Timeouts.Drain to
// end, and returns nil. It closes the listener. It may be called for several
// listeners at the same time; a server that has ended does not begin again.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(s.o.TLS != nil)
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: s.o.Timeouts.Header,
		ReadTimeout:       s.o.Timeouts.Read,
		WriteTimeout:      s.o.Timeouts.Write,
		IdleTimeout:       s.o.Timeouts.Idle,
		MaxHeaderBytes:    maxHeaderBytes,
		TLSConfig:         s.o.TLS,
		Protocols:         &protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	l = newLimitedListener(l, s.o.Connections, s.o.PeerConnections, s.log)
	ended := make(chan error, 1)
	go func() {
		if s.o.TLS != nil {
			ended <- srv.ServeTLS(l, "", "")
			return
		}
		ended <- srv.Serve(l)
	}()
	expire := time.NewTicker(time.Hour)
	defer expire.Stop()
	for {
		select {
		case <-expire.C:
			if _, err := s.o.State.ExpireAnswers(time.Now().Add(-answersLast)); err != nil {
				s.log.Error("old idempotency keys could not be dropped", "error", err)
			}
		case err := <-ended:
			s.stop()
			return err
		case <-ctx.Done():
			s.stop()
			late, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.o.Timeouts.Drain)
			defer cancel()
			if err := srv.Shutdown(late); err != nil {
				s.log.Warn("calls were cut off, as they did not end in time", "error", err)
				srv.Close()
			}
			<-ended
			return nil
		}
	}
}
