package auth_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/auth"
	"github.com/generalbots/backupd/internal/durable"
	"github.com/generalbots/backupd/internal/durable/crashfs"
	"github.com/generalbots/backupd/internal/durable/errfs"
)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var auditKey = crypto.Key{1, 2, 3}

func record(i int) auth.Record {
	return auth.Record{Actor: "token:ops", Role: "admin", Method: "token", Action: "backup.create",
		Resource: fmt.Sprintf("backup-%d", i), Outcome: "ok", Remote: "127.0.0.1", RequestID: fmt.Sprint(i),
		Detail: strings.Repeat("d", []int{0, 100, 700, 1900}[i%4])}
}

func openAudit(t *testing.T, f durable.FS) *auth.Audit {
	t.Helper()
	a, err := auth.OpenAudit(f, auth.AuditFileName, auditKey)
	ok(t, err)
	return a
}

func verify(t *testing.T, f durable.FS, known *auth.AuditHead) auth.AuditReport {
	t.Helper()
	r, err := auth.VerifyAudit(f, auth.AuditFileName, auditKey, known)
	ok(t, err)
	return r
}

// written returns the lines of a log of n records and its head.
func written(t *testing.T, n int) ([]string, auth.AuditHead) {
	t.Helper()
	disk := crashfs.New()
	a := openAudit(t, disk)
	for i := range n {
		ok(t, a.Append(record(i)))
	}
	head := a.Head()
	ok(t, a.Close())
	data, err := durable.ReadFile(disk, auth.AuditFileName, 1<<20)
	ok(t, err)
	return strings.SplitAfter(strings.TrimSuffix(string(data), "\n"), "\n"), head
}

func diskOf(t *testing.T, text string) *crashfs.FS {
	t.Helper()
	disk := crashfs.New()
	ok(t, durable.WriteFile(disk, auth.AuditFileName, []byte(text)))
	return disk
}

func TestAudit_IsWholeOverManyLives(t *testing.T) {
	dir := t.TempDir()
	f, err := durable.OS(dir)
	ok(t, err)
	defer f.Close()
	var head auth.AuditHead
	for life := range 5 {
		a := openAudit(t, f)
		if a.Head() != head || a.Repaired() != 0 {
			t.Fatalf("life %d begins at %v, %d repaired; want %v", life, a.Head(), a.Repaired(), head)
		}
		for i := range 7 {
			ok(t, a.Append(record(i)))
		}
		head = a.Head()
		ok(t, a.Close())
	}
	r := verify(t, f, &head)
	if !r.OK() || r.Records != 35 || r.Head != head || r.Torn != 0 {
		t.Fatalf("got %+v", r)
	}
	info, err := os.Stat(filepath.Join(dir, auth.AuditFileName))
	ok(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Fatalf("mode is %v", info.Mode())
	}
}

func TestAudit_HasOneWriter(t *testing.T) {
	disk := crashfs.New()
	a := openAudit(t, disk)
	_, err := auth.OpenAudit(disk, auth.AuditFileName, auditKey)
	var held *durable.HeldError
	if !errors.As(err, &held) {
		t.Fatalf("second writer: %v", err)
	}
	ok(t, a.Close())
	ok(t, openAudit(t, disk).Close())
}

func TestAudit_TakesRecordsOfManyRequestsAtOnce(t *testing.T) {
	disk := crashfs.New()
	a := openAudit(t, disk)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 25 {
				if err := a.Append(record(i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	head := a.Head()
	if r := verify(t, disk, &head); !r.OK() || r.Records != 200 {
		t.Fatalf("got %+v", r)
	}
	ok(t, a.Close())
}

func TestAudit_CutsLongTextsAndEscapesAll(t *testing.T) {
	disk := crashfs.New()
	a := openAudit(t, disk)
	evil := strings.Repeat("\x00\n\"\\\u2028é\xff", 5000)
	ok(t, a.Append(auth.Record{Actor: evil, Role: evil, Method: evil, Action: evil, Resource: evil, Outcome: evil,
		Remote: evil, RequestID: evil, Detail: evil}))
	head := a.Head()
	ok(t, a.Close())
	if r := verify(t, disk, &head); !r.OK() || r.Records != 1 {
		t.Fatalf("got %+v", r)
	}
	data, err := durable.ReadFile(disk, auth.AuditFileName, 1<<20)
	ok(t, err)
	if bytes.Count(data, []byte("\n")) != 1 || bytes.IndexByte(data, 0) >= 0 || len(data) > 64<<10 {
		t.Fatalf("the line is %d bytes: %.80q", len(data), data)
	}
	if a = openAudit(t, disk); a.Repaired() != 0 || a.Head() != head {
		t.Fatal("a record of odd bytes is taken for a torn one")
	}
	ok(t, a.Close())
}

func TestVerifyAudit_FindsEveryChangedByte(t *testing.T) {
	lines, head := written(t, 5)
	text := []byte(strings.Join(lines, ""))
	for i := range text {
		if testing.Short() && i%7 != 0 {
			continue
		}
		changed := bytes.Clone(text)
		changed[i] ^= 1
		r := verify(t, diskOf(t, string(changed)), &head)
		line := bytes.Count(text[:i], []byte("\n")) + 1
		// A changed line end joins two lines; the break is where they begin, and the
		// last line without its end is a torn one, which the head knows of.
		if r.OK() || r.Broken[0].Line > uint64(line+1) || r.Broken[0].Line < uint64(line) {
			t.Fatalf("byte %d in line %d: got %+v", i, line, r)
		}
	}
}

func TestVerifyAudit_SaysWhereLinesWereRemovedMovedOrAdded(t *testing.T) {
	lines, head := written(t, 8)
	forged := strings.Replace(lines[3], "backup-3", "backup-9", 1)
	edit := func(do func(l []string) []string) []string { return do(slices.Clone(lines)) }
	for name, c := range map[string]struct {
		lines []string
		at    uint64
		count int
	}{
		"untouched":        {lines, 0, 0},
		"changed":          {edit(func(l []string) []string { l[3] = forged; return l }), 4, 1},
		"two changed":      {edit(func(l []string) []string { l[3] = forged; l[4] = forged; return l }), 4, 2},
		"first removed":    {lines[1:], 1, 1},
		"removed":          {edit(func(l []string) []string { return slices.Delete(l, 3, 4) }), 4, 1},
		"three removed":    {edit(func(l []string) []string { return slices.Delete(l, 2, 5) }), 3, 1},
		"end removed":      {lines[:5], 6, 1},
		"all removed":      {nil, 1, 1},
		"swapped":          {edit(func(l []string) []string { l[3], l[4] = l[4], l[3]; return l }), 4, 2},
		"repeated":         {edit(func(l []string) []string { return slices.Insert(l, 4, l[3]) }), 5, 1},
		"added":            {edit(func(l []string) []string { return slices.Insert(l, 4, "{}\n") }), 5, 1},
		"blank line added": {edit(func(l []string) []string { return slices.Insert(l, 4, "\n") }), 5, 1},
		"too long":         {edit(func(l []string) []string { l[4] = strings.Repeat("x", 200<<10) + "\n"; return l }), 5, 1},
		"changed and gone": {edit(func(l []string) []string { l[3] = forged; return slices.Delete(l, 4, 6) }), 4, 2},
		"zeros in a line":  {edit(func(l []string) []string { l[3] = "\x00" + l[3][1:]; return l }), 4, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := verify(t, diskOf(t, strings.TrimSuffix(strings.Join(c.lines, ""), "\n")+strings.Repeat("\n", min(1, len(c.lines)))), &head)
			if r.Breaks != c.count || c.count > 0 && r.Broken[0].Line != c.at {
				t.Fatalf("got %+v, want %d breaks, the first in line %d", r, c.count, c.at)
			}
		})
	}
}

// Two logs under one key do not mix: each line is of its own chain.
func TestVerifyAudit_FindsALineOfAnotherLogOfTheSameKey(t *testing.T) {
	lines, _ := written(t, 4)
	disk := crashfs.New()
	a := openAudit(t, disk)
	for i := range 4 {
		ok(t, a.Append(record(10+i)))
	}
	head := a.Head()
	ok(t, a.Close())
	data, err := durable.ReadFile(disk, auth.AuditFileName, 1<<20)
	ok(t, err)
	mine := strings.SplitAfter(string(data), "\n")
	mine[1] = lines[1]
	if r := verify(t, diskOf(t, strings.Join(mine, "")), &head); r.Breaks != 2 || r.Broken[0].Line != 2 || r.Broken[1].Line != 3 {
		t.Fatalf("got %+v", r)
	}
	// The whole other log is a good log, but not the one whose head is known.
	if r := verify(t, diskOf(t, strings.Join(lines, "")+"\n"), &head); r.OK() {
		t.Fatal("another log passes for this one")
	}
}

func TestVerifyAudit_SeesATruncatedEndOnlyByTheHead(t *testing.T) {
	lines, head := written(t, 6)
	short := diskOf(t, strings.Join(lines[:4], ""))
	if r := verify(t, short, nil); !r.OK() || r.Records != 4 {
		t.Fatalf("without a head: %+v", r)
	}
	if r := verify(t, short, &head); r.OK() {
		t.Fatal("with the head the missing end is not seen")
	}
	longer := diskOf(t, strings.Join(lines, "")+"\n")
	old := verify(t, short, nil).Head
	if r := verify(t, longer, &old); !r.OK() {
		t.Fatalf("a log that went on after its head was noted: %+v", r)
	}
}

func TestOpenAudit_RepairsOnlyWhatACrashTears(t *testing.T) {
	lines, _ := written(t, 4)
	whole := strings.Join(lines, "") + "\n"
	before := strings.Join(lines[:3], "")
	last := lines[3]
	holed := "\x00\x00\x00" + last[3:]
	for name, c := range map[string]struct {
		text    string
		records uint64
		after   string
	}{
		"whole":                     {whole, 4, whole},
		"half a line":               {before + last[:len(last)/2], 3, before},
		"all but the line end":      {before + last, 4, whole},
		"zeros up to the length":    {before + strings.Repeat("\x00", len(last)+1), 3, before},
		"zeros at its beginning":    {before + holed + "\n", 3, before},
		"half of the first":         {lines[0][:40], 0, ""},
		"the first with zeros":      {"\x00" + lines[0][1:], 0, ""},
		"nothing":                   {"", 0, ""},
		"half, of another sequence": {before + lines[1][:len(lines[1])-1], 3, before},
	} {
		t.Run(name, func(t *testing.T) {
			disk := diskOf(t, c.text)
			a := openAudit(t, disk)
			if a.Head().Records != c.records || a.Repaired() != int64(max(0, len(c.text)-len(c.after))) {
				t.Fatalf("head %v, repaired %d", a.Head(), a.Repaired())
			}
			data, err := durable.ReadFile(disk, auth.AuditFileName, 1<<20)
			ok(t, err)
			if string(data) != c.after {
				t.Fatalf("the file is %q, want %q", data, c.after)
			}
			ok(t, a.Append(record(9)))
			ok(t, a.Close())
			if r := verify(t, disk, nil); !r.OK() || r.Records != c.records+1 {
				t.Fatalf("after it: %+v", r)
			}
		})
	}
}

func TestOpenAudit_TouchesNothingThatIsNotTorn(t *testing.T) {
	lines, _ := written(t, 3)
	text := strings.Join(lines, "") + "\n"
	for name, bad := range map[string]string{
		"changed last line":           strings.Replace(text, "backup-2", "backup-7", 1),
		"a line of a stranger":        text + "hello\n",
		"torn after a changed line":   strings.Replace(text, "backup-2", "backup-7", 1) + lines[0][:30],
		"a blank line":                text + "\n",
		"a megabyte without line end": text + strings.Repeat("x", 1<<20),
		"long tail of zeros":          text + strings.Repeat("\x00", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			disk := diskOf(t, bad)
			if _, err := auth.OpenAudit(disk, auth.AuditFileName, auditKey); !errors.Is(err, auth.ErrAuditDamaged) {
				t.Fatalf("got %v", err)
			}
			data, err := durable.ReadFile(disk, auth.AuditFileName, 4<<20)
			ok(t, err)
			if string(data) != bad {
				t.Fatal("the file was changed")
			}
		})
	}
	disk := diskOf(t, text)
	if _, err := auth.OpenAudit(disk, auth.AuditFileName, crypto.Key{9}); !errors.Is(err, auth.ErrAuditDamaged) {
		t.Fatalf("with another key: %v", err)
	}
	ok(t, openAudit(t, disk).Close())
}

func TestAudit_ForgetsNothingAfterAFailedWrite(t *testing.T) {
	e := errfs.New(crashfs.New())
	a := openAudit(t, e)
	ok(t, a.Append(record(0)))
	e.Fail(errfs.Fault{Ops: errfs.WriteAt, N: 1, Form: errfs.Half, Err: syscall.ENOSPC})
	if err := a.Append(record(1)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("full disk: %v", err)
	}
	ok(t, a.Append(record(2)))
	head := a.Head()
	if r := verify(t, e, &head); !r.OK() || r.Records != 2 {
		t.Fatalf("got %+v", r)
	}
	e.Fail(errfs.Fault{Ops: errfs.Sync, N: 1, Err: syscall.EIO})
	if err := a.Append(record(3)); !errors.Is(err, syscall.EIO) {
		t.Fatalf("failed sync: %v", err)
	}
	if err := a.Append(record(4)); !errors.Is(err, durable.ErrAppenderFailed) {
		t.Fatalf("after a failed sync: %v", err)
	}
	ok(t, a.Close())
}

// auditLosses crashes at every operation and counts states in which a record that
// was acknowledged is gone, or the log does not go on whole.
func auditLosses(t *testing.T, lies crashfs.Lies) (states, losses int, first error) {
	t.Helper()
	disk := crashfs.New()
	disk.Lie(lies)
	var acked auth.AuditHead
	disk.Before(func(op crashfs.Op) {
		for _, percent := range []int{0, 30, 70, 100} {
			for seed := range uint64(12) {
				states++
				after := disk.Crash(rand.New(rand.NewPCG(seed, 7)), percent)
				after.Lie(crashfs.Lies{})
				err := func() error {
					a, err := auth.OpenAudit(after, auth.AuditFileName, auditKey)
					if err != nil {
						return err
					}
					if a.Head().Records > acked.Records+1 || a.Head().Records < acked.Records {
						return fmt.Errorf("%d records, %d acknowledged", a.Head().Records, acked.Records)
					}
					if err := a.Append(record(99)); err != nil {
						return err
					}
					if err := a.Close(); err != nil {
						return err
					}
					known := acked
					r, err := auth.VerifyAudit(after.Crash(rand.New(rand.NewPCG(seed, 8)), 0), auth.AuditFileName, auditKey, &known)
					if err == nil && !r.OK() {
						err = fmt.Errorf("%+v", r.Broken)
					}
					return err
				}()
				if err != nil {
					losses++
					if first == nil {
						first = fmt.Errorf("at %s %s: %w", op.Kind, op.Name, err)
					}
				}
			}
		}
	})
	a := openAudit(t, disk)
	for i := range 10 {
		ok(t, a.Append(record(i)))
		acked = a.Head()
	}
	ok(t, a.Close())
	return states, losses, first
}

func TestAudit_LosesNoAcknowledgedRecordAtAnyCrash(t *testing.T) {
	states, losses, first := auditLosses(t, crashfs.Lies{})
	if losses > 0 {
		t.Fatalf("%d of %d states: %v", losses, states, first)
	}
	t.Logf("%d states", states)
}

// Negative control.
func TestAudit_CrashTestFeelsAMissingSync(t *testing.T) {
	states, losses, _ := auditLosses(t, crashfs.Lies{IgnoreSync: true})
	if losses == 0 {
		t.Fatalf("nothing was lost in %d states", states)
	}
	t.Logf("%d of %d states lost something", losses, states)
}

func FuzzVerifyAudit(f *testing.F) {
	disk := crashfs.New()
	a, err := auth.OpenAudit(disk, auth.AuditFileName, auditKey)
	ok(f, err)
	for i := range 3 {
		ok(f, a.Append(record(i)))
	}
	head := a.Head()
	ok(f, a.Close())
	whole, err := durable.ReadFile(disk, auth.AuditFileName, 1<<20)
	ok(f, err)
	f.Add(whole)
	f.Add(whole[:len(whole)-5])
	f.Add([]byte("{}\n\n"))
	f.Add(bytes.Repeat([]byte("x"), 70<<10))
	f.Fuzz(func(t *testing.T, data []byte) {
		disk := crashfs.New()
		ok(t, durable.WriteFile(disk, auth.AuditFileName, data))
		r, err := auth.VerifyAudit(disk, auth.AuditFileName, auditKey, &head)
		ok(t, err)
		if r.OK() != bytes.HasPrefix(data, whole) && r.OK() {
			t.Fatalf("a log that was never written passes: %q", data)
		}
		a, err := auth.OpenAudit(disk, auth.AuditFileName, auditKey)
		if err != nil {
			return
		}
		ok(t, a.Append(record(5)))
		ok(t, a.Close())
		again, err := durable.ReadFile(disk, auth.AuditFileName, 1<<24)
		ok(t, err)
		// Nothing that is a whole line was removed.
		lines := data[:bytes.LastIndexByte(data, '\n')+1]
		if bytes.IndexByte(lines, 0) < 0 && !bytes.HasPrefix(again, lines) {
			t.Fatal("a complete line was removed")
		}
	})
}
