package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// ClientOptions say where a daemon is and who calls.
type ClientOptions struct {
	// Server is http://HOST:PORT, https://HOST:PORT or unix:PATH. A name and a
	// password in it are refused: what stands in an address is logged.
	Server string
	Token  string      // sent in a header, and to this server only; "" for public calls
	TLS    *tls.Config // nil for the system's authorities
	Agent  string      // User-Agent
}

// Client calls the Backup API. Its methods may be called at the same time. An
// error is an *Error when the daemon answered with one.
type Client struct {
	base  string
	token string
	agent string
	http  *http.Client
}

const (
	// maxAnswer bounds an answer that is not a stream, in bytes.
	maxAnswer = 256 << 20
	// answerTime is how long a call may take that waits for nothing.
	answerTime = 60 * time.Second
)

// NewClient makes a client. Nothing is sent before the first call.
func NewClient(o ClientOptions) (*Client, error) {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	t := &http.Transport{
		DialContext: dialer.DialContext, TLSClientConfig: o.TLS, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 16,
		IdleConnTimeout: 30 * time.Second, TLSHandshakeTimeout: 10 * time.Second,
	}
	c := &Client{token: o.Token, agent: o.Agent}
	if path, ok := strings.CutPrefix(o.Server, "unix:"); ok {
		path = strings.TrimPrefix(path, "//")
		if path == "" {
			return nil, errors.New("the server unix: names no socket")
		}
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dialer.DialContext(ctx, "unix", path) }
		c.base = "http://backupd"
	} else {
		u, err := url.Parse(o.Server)
		switch {
		case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
			return nil, errors.New("the server has to be http://HOST:PORT, https://HOST:PORT or unix:PATH")
		case u.User != nil:
			return nil, errors.New("the server's address has a name or password in it: give the token in a file")
		case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
			return nil, errors.New("the server's address has a path: give it without")
		}
		c.base = u.Scheme + "://" + u.Host
	}
	if strings.ContainsFunc(o.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("the token has characters that no token has: is it the right file?")
	}
	c.http = &http.Client{
		Transport: t,
		// A token goes to the server it was given for and nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// Close closes connections that are idle.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Error is what the daemon answered instead of what was asked for.
type Error struct {
	Status     int           // of HTTP
	Code       string        // snake_case
	Message    string        // what is wrong and what to do
	Field      string        // that is wrong, ""
	JobID      string        // that is in the way, ""
	RequestID  string        // under which the daemon's log has more
	RetryAfter time.Duration // 0: waiting does not help
}

// Error is the message, with what helps to act on it.
func (e *Error) Error() string {
	text := e.Message
	if !strings.Contains(text, e.Field) {
		text = e.Field + ": " + text
	}
	if e.JobID != "" && !strings.Contains(text, e.JobID) {
		text += " (job " + e.JobID + ")"
	}
	if e.Status >= 500 && e.RequestID != "" {
		text += " (request " + e.RequestID + ")"
	}
	return text
}

// Page selects a part of a list.
type Page struct {
	Limit  int // 0: what the daemon gives by itself
	Offset int
}

func (p Page) in(q url.Values) url.Values {
	if p.Limit > 0 {
		q.Set("limit", strconv.Itoa(p.Limit))
	}
	if p.Offset > 0 {
		q.Set("offset", strconv.Itoa(p.Offset))
	}
	return q
}

// request is one call in the making.
type request struct {
	method, path string
	query        url.Values
	body         any
	key          string // Idempotency-Key
	wait         time.Duration
}

// send makes a call. The caller closes the body of the answer, which is a success.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	var body io.Reader
	if r.body != nil {
		data, err := json.Marshal(r.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	}
	if r.wait > 0 {
		if r.query == nil {
			r.query = url.Values{}
		}
		r.query.Set("wait", strconv.Itoa(int(min(r.wait, maxWait*time.Second)/time.Second)))
	}
	where := c.base + r.path
	if len(r.query) > 0 {
		where += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, where, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.agent != "" {
		req.Header.Set("User-Agent", c.agent)
	}
	if r.key != "" {
		req.Header.Set("Idempotency-Key", r.key)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		// The address stands in the error of the library, which is enough.
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("the daemon at %s can not be asked: %w", c.base, err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, errorOf(resp)
}

func errorOf(resp *http.Response) error {
	e := &Error{Status: resp.StatusCode, RequestID: resp.Header.Get("X-Request-Id")}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds >= 0 && seconds <= 86_400 {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	var p problem
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil || json.Unmarshal(data, &p) != nil || p.Code == "" {
		e.Code, e.Message = "unexpected_answer", fmt.Sprintf("what answers there is no backupd, or something stands between: %s", resp.Status)
		return e
	}
	e.Code, e.Message, e.Field, e.JobID = p.Code, p.Message, p.Field, p.JobID
	return e
}

// call makes a call and decodes its answer. total is X-Total-Count, -1 without it.
func (c *Client) call(ctx context.Context, r request, into any) (h http.Header, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTime+r.wait, errors.New("the daemon did not answer in time"))
	defer cancel()
	resp, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, fmt.Errorf("the daemon's answer broke off: %w", err)
	case len(data) > maxAnswer:
		return nil, fmt.Errorf("the daemon's answer is longer than %d bytes: ask for less", maxAnswer)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return nil, fmt.Errorf("the daemon's answer can not be read: %w", err)
	}
	return resp.Header, nil
}

func totalOf(h http.Header, otherwise int) int {
	if n, err := strconv.Atoi(h.Get("X-Total-Count")); err == nil {
		return n
	}
	return otherwise
}
