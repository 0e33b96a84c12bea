package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/generalbots/backupd/internal/auth"
	"github.com/julienschmidt/httprouter"
)

// call is one request on its way through. One goroutine has it.
type call struct {
	s      *Server
	route  *route
	w      *recorder
	r      *http.Request
	params httprouter.Params
	id     string // of the request
	who    auth.Principal
	place  chan struct{} // to be given back
}

// answer is what a handler has to say. One that wrote it by itself returns the
// zero value.
type answer struct {
	status int
	body   any // JSON
}

// recorder knows what was answered.
type recorder struct {
	http.ResponseWriter
	status int // 0 before the header is written
}

// WriteHeader notes the status.
func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write writes a piece of the body.
func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// handle is what all routes have in common.
func (s *Server) handle(rt route) httprouter.Handle {
	return func(w http.ResponseWriter, r *http.Request, params httprouter.Params) {
		begun := time.Now()
		c := &call{s: s, route: &rt, w: &recorder{ResponseWriter: w}, r: r, params: params, id: requestID(r)}
		h := w.Header()
		h.Set("X-Request-Id", c.id)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		// A panic, ours or the one that cuts a stream off, ends the call for
		// good only after everything was given back and counted.
		var abort bool
		func() {
			defer func() {
				p := recover()
				c.release()
				switch {
				case p == nil:
				case p == http.ErrAbortHandler:
					abort = true
				default:
					s.log.Error("a call met a bug of ours", "request_id", c.id, "route", rt.pattern, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
					if abort = c.w.status != 0; !abort {
						c.fail(errBug)
					}
				}
			}()
			a, err := c.run()
			switch {
			case err != nil:
				c.fail(err)
			case a.status != 0:
				c.send(a)
			}
		}()
		if s.o.Observer != nil {
			s.o.Observer.Request(rt.pattern, method(r.Method), c.w.status, time.Since(begun))
		}
		if abort {
			panic(http.ErrAbortHandler)
		}
	}
}

// method is the label of a request's method: of a short list, as clients may send
// any word.
func method(m string) string {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return m
	}
	return "other"
}

// run lets a call in, or not, and runs its handler.
func (c *call) run() (answer, error) {
	if c.route.access == public {
		return c.route.handler(c)
	}
	if err := c.enter(); err != nil {
		return answer{}, err
	}
	if err := c.identify(); err != nil {
		return answer{}, c.denied(err)
	}
	if err := c.pace(); err != nil {
		return answer{}, err
	}
	if err := c.allowed(); err != nil {
		return answer{}, c.denied(err)
	}
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		if err := c.s.origin.Check(c.r); err != nil {
			return answer{}, c.denied(errOrigin)
		}
	}
	if c.route.long && !c.linger() {
		return answer{}, errOverload
	}
	return c.route.handler(c)
}

// enter takes a place among the calls under way, waiting a moment for one.
func (c *call) enter() error {
	select {
	case c.s.short <- struct{}{}:
		c.place = c.s.short
		return nil
	default:
	}
	wait := time.NewTimer(c.s.o.Timeouts.Queue)
	defer wait.Stop()
	select {
	case c.s.short <- struct{}{}:
		c.place = c.s.short
		return nil
	case <-wait.C:
		return errOverload
	case <-c.r.Context().Done():
		return c.r.Context().Err()
	}
}

// linger changes the place of a call for one where it may take its time. There are
// few of them: false says that none is free, and the call keeps what it has.
func (c *call) linger() bool {
	if c.place == c.s.long {
		return true
	}
	select {
	case c.s.long <- struct{}{}:
		c.release()
		c.place = c.s.long
		return true
	default:
		return false
	}
}

func (c *call) release() {
	if c.place != nil {
		<-c.place
		c.place = nil
	}
}

// byAddress is how a caller on this host is told on routes that ask it for nothing else.
const byAddress = "address"

// identify finds out who calls.
func (c *call) identify() error {
	remote := peer(c.r)
	if c.route.access == scrapers && local(c.r, remote) {
		c.who = auth.Principal{Name: "local", Method: byAddress}
		return nil
	}
	for _, name := range []string{"Authorization", "X-Api-Key"} {
		if len(c.r.Header.Values(name)) > 1 {
			return &requestError{status: http.StatusBadRequest, code: "bad_request", message: "the header " + name + " stands twice; send it once"}
		}
	}
	who, err := c.s.o.Auth.Authenticate(c.r.Context(), auth.Credentials{
		Authorization: c.r.Header.Get("Authorization"), APIKey: c.r.Header.Get("X-Api-Key"), Remote: remote,
	})
	if err != nil {
		return err
	}
	c.who = who
	return nil
}

// allowed tells whether the caller has the role that the route needs.
func (c *call) allowed() error {
	if c.who.Method == byAddress {
		return nil
	}
	needed := auth.Admin
	if c.route.access == operators {
		needed = auth.Operator
	}
	if c.who.Role < needed {
		return forbidden(needed)
	}
	return nil
}

func forbidden(needed auth.Role) error {
	return &requestError{status: http.StatusForbidden, code: "insufficient_permissions", message: "this needs the role " + needed.String() + "; use a credential that has it"}
}

// peer is the address a request came from; the zero value over a Unix socket.
func peer(r *http.Request) netip.Addr { return addressOf(r.RemoteAddr) }

func addressOf(remote string) netip.Addr {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}

// local tells whether a request comes from a process of this host for itself. What
// a proxy passes on does not.
func local(r *http.Request, remote netip.Addr) bool {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"} {
		if len(r.Header.Values(name)) > 0 {
			return false
		}
	}
	return !remote.IsValid() || remote.IsLoopback()
}

// denied audits a call that was not let in. Too many failures are counted where
// they are limited, not written down one by one.
func (c *call) denied(err error) error {
	p := problemOf(err)
	if p.status != http.StatusUnauthorized && p.status != http.StatusForbidden {
		return err
	}
	record := c.record("request.denied", c.r.Method+" "+c.route.pattern)
	record.Outcome, record.Detail = p.code, c.r.URL.Path
	if failed := c.s.o.Audit.Append(record); failed != nil {
		c.s.log.Error("a denial could not be audited", "request_id", c.id, "error", failed)
	}
	return err
}

// record begins a record of the audit.
func (c *call) record(action, resource string) auth.Record {
	r := auth.Record{Action: action, Resource: resource, Role: c.who.Role.String(), Method: c.who.Method, RequestID: c.id}
	if c.who.Name != "" {
		r.Actor = c.who.String()
	}
	if at := peer(c.r); at.IsValid() {
		r.Remote = at.String()
	} else {
		r.Remote = "unix"
	}
	return r
}

// context is the request's, which ends also when its credential does, when the
// server is to end, and after limit.
func (c *call) context(limit time.Duration) (context.Context, context.CancelFunc) {
	if !c.who.Expires.IsZero() {
		limit = min(limit, time.Until(c.who.Expires))
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), limit)
	stop := context.AfterFunc(c.s.drain, cancel)
	return ctx, func() { stop(); cancel() }
}

// more gives the client time to take the rest of an answer, or its next piece.
// Reading is over by then: its deadline would end the call.
func (c *call) more(d time.Duration) {
	rc := http.NewResponseController(c.w)
	// Neither fails but on a connection that is gone, which the next write tells.
	_ = rc.SetReadDeadline(time.Time{})
	_ = rc.SetWriteDeadline(time.Now().Add(d + c.s.o.Timeouts.Write))
}

// send writes an answer.
func (c *call) send(a answer) {
	body, err := json.Marshal(a.body)
	if err != nil {
		c.fail(fmt.Errorf("%w: %v", errBug, err))
		return
	}
	body = append(body, '\n')
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	c.w.WriteHeader(a.status)
	if _, err := c.w.Write(body); err != nil {
		c.s.log.Debug("an answer could not be sent", "request_id", c.id, "error", err)
	}
}

// fail answers with an error, which is logged when it is ours.
func (c *call) fail(err error) {
	p := problemOf(err)
	switch {
	case p.status == http.StatusInternalServerError:
		c.s.log.Error("a call came to nothing", "request_id", c.id, "method", c.r.Method, "route", c.route.pattern, "error", err)
	case errors.Is(err, context.Canceled):
		c.s.log.Debug("a client went away", "request_id", c.id, "route", c.route.pattern)
	}
	h := c.w.Header()
	if p.status == http.StatusUnauthorized {
		challenge := `Bearer realm="backupd"`
		if p.code != auth.CodeMissingToken {
			challenge += `, error="invalid_token"`
		}
		h.Set("WWW-Authenticate", challenge)
	}
	if after := p.after(); after > 0 {
		h.Set("Retry-After", strconv.Itoa(int((after+time.Second-1)/time.Second)))
	}
	c.send(answer{p.status, problem{p.code, p.message, p.field, p.jobID, c.id}})
}

// requestID is the client's own id where it is fit for a log, else a new one.
func requestID(r *http.Request) string {
	if ids := r.Header.Values("X-Request-Id"); len(ids) == 1 && sane(ids[0]) {
		return ids[0]
	}
	var b [16]byte
	rand.Read(b[:]) // never fails
	return "req-" + hex.EncodeToString(b[:])
}

func sane(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.') {
			return false
		}
	}
	return true
}
