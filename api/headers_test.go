package api_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/generalbots/backupd/api"
	"github.com/generalbots/backupd/internal/auth"
	"github.com/generalbots/backupd/internal/job"
	"github.com/generalbots/backupd/internal/state"
)

func TestHead_IsGetWithoutTheBody(t *testing.T) {
	h := furnished(t, nil)
	for _, path := range []string{"/health", "/healthz", "/api/health", at + "/list", at + "/" + h.first, at + "/schedule", at + "/jobs", at + "/openapi.yaml", "/metrics", at + "/" + nobody} {
		get, head := h.do(h.admin, "GET", path, "", "Accept-Encoding: identity"), h.do(h.admin, "HEAD", path, "", "Accept-Encoding: identity")
		if head.status != get.status || head.body != "" || get.body == "" {
			t.Errorf("%s: %d and %d, %q", path, get.status, head.status, head.body)
		}
		for _, name := range []string{"Content-Type", "X-Total-Count", "Cache-Control"} {
			if head.header.Get(name) != get.header.Get(name) {
				t.Errorf("%s: %s is %q and %q", path, name, get.header.Get(name), head.header.Get(name))
			}
		}
	}
	// A header that says who calls from where changes nothing that only reads.
	h.want(200, h.admin, "HEAD", at+"/list", "", "Sec-Fetch-Site: cross-site")
}

func TestLocation_IsWhereWhatWasMadeIsFound(t *testing.T) {
	h := furnished(t, nil)
	for _, c := range []struct{ path, body, found string }{
		{"/create", `{}`, "/ID"}, {"/restore/" + h.first, `{}`, "/restore/ID/status"}, {"/" + h.first + "/verify", ``, "/jobs/ID"}, {"/schedule", `{"cron":"@daily"}`, "/schedule/ID"},
	} {
		for range 2 { // made, and answered again
			g := h.do(h.admin, "POST", at+c.path, c.body, "Idempotency-Key: once"+c.path)
			id, _ := g.decode(t)["id"].(string)
			if want := at + strings.Replace(c.found, "ID", id, 1); g.header.Get("Location") != want {
				t.Errorf("%s: %d with the location %q, want %q", c.path, g.status, g.header.Get("Location"), want)
			} else if c.path != "/schedule" {
				h.want(200, h.admin, "GET", want, "")
			}
		}
	}
	if g := h.want(400, h.admin, "POST", at+"/create", `[]`); g.header.Get("Location") != "" {
		t.Errorf("nothing was made at %s", g.header.Get("Location"))
	}
}

func TestUnavailable_AlwaysSaysWhenToAskAgain(t *testing.T) {
	for _, err := range []error{
		state.ErrFull, state.ErrUncertain, job.ErrQueueFull, job.ErrClosing, context.DeadlineExceeded, &auth.Error{Code: auth.CodeServiceUnavailable},
	} {
		if status, after := api.RetryAfter(fmt.Errorf("it failed: %w", err)); status != 503 || after <= 0 {
			t.Errorf("%v: %d, again after %v", err, status, after)
		}
	}
	if status, after := api.RetryAfter(job.ErrNotFound); status != 404 || after != 0 {
		t.Errorf("%d, again after %v", status, after)
	}
}

func TestEvents_TellABrowserThatComesBackThatThereAreNoMore(t *testing.T) {
	h := furnished(t, nil)
	last := func(header string) (int, string) {
		req, err := http.NewRequest("GET", h.url+at+"/jobs/"+h.first+"/events", nil)
		must(t, err)
		req.Header.Set("Authorization", "Bearer "+h.operator)
		req.Header.Set("Last-Event-ID", header)
		resp, err := h.client.Do(req)
		must(t, err)
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		must(t, err)
		return resp.StatusCode, string(data)
	}
	// Who has not seen the end gets it, whatever else it has seen.
	for _, id := range []string{"", "1", "END"} {
		if status, text := last(id); status != 200 || !strings.HasPrefix(text, "id: end\nevent: end\ndata: {") {
			t.Errorf("after %q: %d %s", id, status, text)
		}
	}
	if status, text := last("end"); status != 204 || text != "" {
		t.Errorf("after the end: %d %s", status, text)
	}
	h.contract.answer("GET", at+"/jobs/"+h.first+"/events", got{status: 204})
}
