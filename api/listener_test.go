package api_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/generalbots/backupd/api"
)

// elsewhere makes connections look as if they came from other hosts: each says in
// its first byte from which.
type elsewhere struct{ net.Listener }

type fromThere struct {
	net.Conn
	at net.Addr
}

func (c fromThere) RemoteAddr() net.Addr { return c.at }

func (l elsewhere) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	var b [1]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return nil, err
	}
	at := map[byte]string{'a': "192.0.2.7", 'b': "192.0.2.8", 'l': "127.0.0.1", 'x': "2001:db8::1", 'y': "2001:db8::2", 'm': "::ffff:192.0.2.7"}[b[0]]
	return fromThere{c, &net.TCPAddr{IP: net.ParseIP(at), Port: 4000}}, nil
}

func TestConnections_OfOneOtherHostAreAPartOfAll(t *testing.T) {
	h := newHouse(t, func(o *api.Options) { o.Connections, o.PeerConnections = 20, 3 })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- h.server.Serve(ctx, elsewhere{l}) }()
	t.Cleanup(func() { stop(); must(t, <-served) })
	// open makes a connection and tells whether it is served; it stays open.
	open := func(from byte) (net.Conn, bool) {
		t.Helper()
		c, err := net.Dial("tcp", l.Addr().String())
		must(t, err)
		t.Cleanup(func() { c.Close() })
		must(t, c.SetDeadline(time.Now().Add(time.Minute)))
		_, err = io.WriteString(c, string(from)+"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
		must(t, err)
		var b [12]byte
		_, err = io.ReadFull(c, b[:])
		if e, ok := err.(net.Error); ok && e.Timeout() {
			t.Fatal("neither served nor refused")
		}
		return c, err == nil && string(b[:]) == "HTTP/1.1 200"
	}
	var first net.Conn
	for i, from := range []byte("aaa") {
		c, served := open(from)
		if !served {
			t.Fatalf("connection %d is refused", i)
		}
		first = c
	}
	for _, c := range []struct {
		from   string
		served bool
		what   string
	}{
		{"a", false, "one too many"}, {"m", false, "the same address spelled as IPv6"}, {"bbb", true, "another host"}, {"b", false, "the other host's fourth"},
		{"xyx", true, "an IPv6 network"}, {"y", false, "the fourth of that network"}, {"llllll", true, "this host"},
	} {
		for _, from := range []byte(c.from) {
			if _, served := open(from); served != c.served {
				t.Errorf("%s: served %v", c.what, served)
			}
		}
	}
	if n := strings.Count(h.log.String(), "connections are refused"); n != 1 {
		t.Errorf("the log tells of it %d times, want once", n)
	}
	// A place that is given back is there again.
	first.Close()
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if _, served := open('a'); served {
			break
		}
		if time.Since(begun) > time.Minute {
			t.Fatal("a place is not given back")
		}
	}
}

func TestConnections_BeyondAllWaitForAPlace(t *testing.T) {
	h := newHouse(t, func(o *api.Options) { o.Connections = 2 })
	idle := []net.Conn{h.dial(), h.dial()}
	for _, c := range idle {
		_, err := io.WriteString(c, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
		must(t, err)
		_, err = c.Read(make([]byte, 1))
		must(t, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", h.url+"/health", nil)
	must(t, err)
	if resp, err := h.client.Do(req); err == nil {
		resp.Body.Close()
		t.Error("a third connection is served")
	} else if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a third connection is refused: %v", err)
	}
	idle[0].Close()
	h.want(200, "", "GET", "/health", "")
}
