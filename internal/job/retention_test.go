package job_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/job"
	"github.com/generalbots/backupd/repo"
)

var day0 = time.Date(2026, 5, 1, 2, 0, 0, 0, time.UTC)

// backups reads a shorthand: a word a backup, oldest first, made a day apart:
// state (c complete, p with problems, s suspicious, v damaged, f without the source
// db, e without either source, o complete after db was taken out), retention in days, schedule.
func backups(short string) (list []job.Backup) {
	for i, w := range strings.Fields(short) {
		var kind, schedule string
		var days int
		fmt.Sscanf(w, "%1s%d%s", &kind, &days, &schedule)
		b := job.Backup{ID: fmt.Sprintf("%02d", i), State: job.Completed, CreatedAt: day0.AddDate(0, 0, i), ScheduleID: schedule,
			Manifest: &repo.Manifest{Parts: []repo.Part{{Source: "bots"}, {Source: "db"}}}}
		if days > 0 {
			b.ExpiresAt = b.CreatedAt.AddDate(0, 0, days)
		}
		switch kind {
		case "p":
			b.State = job.CompletedWithProblems
		case "s":
			b.Manifest.Parts[0].Notes = []string{"suspicious: no files, where snapshot x has 5"}
		case "o":
			b.Manifest.Parts = b.Manifest.Parts[:1]
		case "v":
			b.Verification.State = job.VerificationFailed
		case "f":
			b.State, b.Manifest.Parts[1].Failed = job.CompletedWithProblems, true
		case "e":
			b.State, b.Manifest.Parts[0].Failed, b.Manifest.Parts[1].Failed = job.CompletedWithProblems, true, true
		}
		list = append(list, b)
	}
	return list
}

// wholly are the sources that a backup is believed to hold.
func wholly(b job.Backup) map[string]bool {
	out := make(map[string]bool)
	if b.Verification.State != job.VerificationFailed && len(b.Manifest.Parts[0].Notes) == 0 {
		for _, p := range b.Manifest.Parts {
			if !p.Failed {
				out[p.Source] = true
			}
		}
	}
	return out
}

func TestExpired_Table(t *testing.T) {
	for _, c := range []struct {
		name, list string
		day        int
		minimum    int
		recent     int
		want       string
	}{
		{"nothing is past its time", "c30 c30 c30", 20, 1, 0, ""},
		{"what has no time is kept", "c0 c0 c0", 9999, 1, 0, ""},
		{"the minimum stays", "c1 c1 c1 c1 c1", 99, 3, 0, "00 01"},
		{"the newest stays without a minimum", "c1 c1 c1", 99, 0, 0, "00 01"},
		{"the newest complete one stays behind others", "c1 c1 p1 p1 p1", 99, 1, 0, "00 02 03"},
		{"each schedule has its minimum", "c1a c1b c1a c1b c1a", 99, 1, 0, "00 01 02"},
		{"those with problems go too when all have", "p1 p1 p1 p1", 99, 2, 0, "00 01"},
		{"a day's share", "c1 c1 c1 c1 c1 c1 c1 c1", 99, 1, 0, "00 01 02"},
		{"less when some have gone today", "c1 c1 c1 c1 c1 c1 c1 c1", 99, 1, 2, "00"},
		{"none when all of it has", "c1 c1 c1 c1 c1 c1 c1 c1", 99, 1, 5, ""},
		{"what is suspicious holds what is older", "c1 c1 c1 s90 c1 c1", 60, 1, 0, "04"},
		{"until it is past its time", "c1 c1 c1 s90 c1 c1", 94, 1, 0, "04 00 01"},
		{"of its own schedule", "c1a c1a s90b c1a c1b", 60, 1, 0, "00 01"},
		{"none goes when all are damaged", "v1 v1 v1 v1 v1", 99, 1, 0, ""},
		{"none goes when all lost their sources", "e1 e1 e1 e1 e1", 99, 1, 0, ""},
		{"none goes when all are suspicious", "s1 s1 s1 s1 s1", 99, 1, 0, ""},
		{"none goes when each is good for nothing in its own way", "e1 v1 s1 e1 v1", 99, 1, 0, ""},
		{"what is older than a good one goes, damaged or not", "v1 e1 c1 v1 v1", 99, 1, 0, "00 01"},
		{"the last that holds a source stays while none is complete", "p1 p1 f1 f1 f1", 99, 1, 0, "00 02 03"},
		{"a source that was never had holds nothing", "f1 f1 f1 f1", 99, 1, 0, "00 01 02"},
		{"a complete one without a source says that it is gone", "p1 p1 o1 o1", 99, 1, 0, "00 01 02"},
		{"a good one of another schedule lets none go", "v1a v1a v1a c1b c1b", 99, 1, 0, "03"},
		{"what expired first goes first", "c50 c9 c9 c9 c9 c1", 80, 1, 0, "01 02 03"},
	} {
		list := backups(c.list)
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		if got := strings.Join(job.Expired(list, day0.AddDate(0, 0, c.day), c.minimum, c.recent), " "); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestExpired_Properties(t *testing.T) {
	rounds := 3000
	if testing.Short() {
		rounds = 300
	}
	for seed := range uint64(rounds) {
		rng := rand.New(rand.NewPCG(seed, 3))
		var short []string
		for range rng.IntN(40) {
			short = append(short, fmt.Sprintf("%c%d%s", "cccppsvfe"[rng.IntN(9)], rng.IntN(30), []string{"", "a", "b"}[rng.IntN(3)]))
		}
		list := backups(strings.Join(short, " "))
		minimum := rng.IntN(5)
		now := day0.AddDate(0, 0, rng.IntN(90))
		// What was made by a clock that is ahead is another test's.
		list = slices.DeleteFunc(list, func(b job.Backup) bool { return b.CreatedAt.After(now) })
		recent := rng.IntN(4)
		got := job.Expired(list, now, minimum, recent)
		fail := func(what string) {
			t.Fatalf("seed %d: %s: %v of %v at %v, minimum %d", seed, what, got, short, now, minimum)
		}
		if len(got) > max(0, max(job.ExpiryLeast, len(list)/job.ExpiryShare)-recent) {
			fail("more than a day's share")
		}
		gone := make(map[string]bool)
		for _, id := range got {
			gone[id] = true
		}
		left := make(map[string]int)
		had := make(map[string]int)
		newest := ""
		for _, b := range list {
			if gone[b.ID] && (b.ExpiresAt.IsZero() || !b.ExpiresAt.Before(now)) {
				fail("one that is not past its time")
			}
			if b.State == job.Completed && b.Verification.State == "" && len(b.Manifest.Parts[0].Notes) == 0 {
				newest = b.ID
				had[b.ScheduleID]++
				if !gone[b.ID] {
					left[b.ScheduleID]++
				}
			}
		}
		if gone[newest] {
			fail("the newest complete one")
		}
		// Whatever goes, a newer one of its schedule is good for something, and what it
		// holds whole stays, there or in a complete one.
		for i, b := range list {
			if !gone[b.ID] {
				continue
			}
			held := make(map[string]bool)
			complete := false
			for _, newer := range list[i+1:] {
				if newer.ScheduleID == b.ScheduleID && !gone[newer.ID] {
					for name := range wholly(newer) {
						held[name] = true
					}
					complete = complete || newer.State == job.Completed && len(wholly(newer)) > 0
				}
			}
			for name := range wholly(b) {
				if !complete && !held[name] {
					fail("the last that holds " + name)
				}
			}
			if len(held) == 0 {
				fail("one with nothing good after it")
			}
		}
		for s := range had {
			if left[s] < min(had[s], max(minimum, 1)) {
				fail("less than the minimum")
			}
		}
		// Never un-expired: what may go now may go at any later time, and does
		// when it is its turn.
		later := job.Expired(list, now.Add(time.Duration(rng.IntN(1000))*time.Hour), minimum, recent)
		for _, id := range got {
			if !slices.Contains(later, id) {
				fail(fmt.Sprintf("%s is kept later: %v", id, later))
			}
		}
		// Day after day it comes to rest, with the same left as all at once would.
		rest := list
		for range 200 {
			now := now.AddDate(1, 0, 0)
			out := job.Expired(rest, now, minimum, 0)
			if len(out) == 0 {
				break
			}
			rest = slices.DeleteFunc(slices.Clone(rest), func(b job.Backup) bool { return slices.Contains(out, b.ID) })
		}
		if newest != "" && !slices.ContainsFunc(rest, func(b job.Backup) bool { return b.ID == newest }) {
			fail("the newest complete one in the end")
		}
	}
}
