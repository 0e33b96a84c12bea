package index_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/index"
)

func wantUnusable(t *testing.T, err error, resettable bool, reason string) {
	t.Helper()
	var unusable *index.UnusableError
	if !errors.As(err, &unusable) || unusable.Resettable != resettable || !strings.Contains(unusable.Reason, reason) {
		t.Errorf("got %v; want an *UnusableError, resettable %v, with %q", err, resettable, reason)
	}
}

func TestOpen_RefusesTheIndexOfAnother(t *testing.T) {
	dir := memoryDir(t)
	x := mustOpen(t, dir)
	mustAdd(t, x, 1, packEntries(1, 10))
	mustClose(t, x)

	foreign := options(dir)
	foreign.Repo = crypto.RepoID{9}
	_, err := index.Open(foreign)
	wantUnusable(t, err, true, "belongs to repository 0102")

	otherKey := options(dir)
	otherKey.Key = crypto.Key{9}
	_, err = index.Open(otherKey)
	wantUnusable(t, err, true, "does not verify")

	x = mustOpen(t, dir)
	wantPlace(t, x, packEntries(1, 1)[0].ID, packEntries(1, 1)[0].Place)
}

func TestOpen_RefusesAnotherVersion(t *testing.T) {
	dir := memoryDir(t)
	im := cleanImage(t)
	im["state"].set(7, 1)
	im.write(t, dir)
	_, err := index.Open(options(dir))
	wantUnusable(t, err, true, "another version")
}

func TestOpen_AdmitsOneOpener(t *testing.T) {
	dir := memoryDir(t)
	x := mustOpen(t, dir)
	_, err := index.Open(options(dir))
	var unusable *index.UnusableError
	if !errors.As(err, &unusable) || !unusable.Locked || unusable.Resettable || !strings.Contains(unusable.Reason, "locked") {
		t.Errorf("second Open = %v; want an *UnusableError that says locked", err)
	}
	err = index.Reset(dir)
	if !errors.As(err, &unusable) || !unusable.Locked {
		t.Errorf("Reset while open = %v; want an *UnusableError that says locked", err)
	}
	mustAdd(t, x, 1, packEntries(1, 10))
	mustClose(t, x)
	x = mustOpen(t, dir)
	wantPlace(t, x, packEntries(1, 1)[0].ID, packEntries(1, 1)[0].Place)
}

func TestReset_MakesRoomForANewIndexAndTouchesNothingElse(t *testing.T) {
	dir := memoryDir(t)
	im := cleanImage(t)
	for name := range im {
		im[name] = &file{data: []byte("rubbish"), size: 7}
	}
	im.write(t, dir)
	other := filepath.Join(dir, "somebody's")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := index.Open(options(dir))
	wantUnusable(t, err, true, "")
	for range 2 {
		if err := index.Reset(dir); err != nil {
			t.Fatal(err)
		}
	}
	x := mustOpen(t, dir)
	if packs, err := x.Packs(); err != nil || len(packs) != 0 {
		t.Errorf("Packs = %d, %v; want none", len(packs), err)
	}
	wantMissing(t, x, chunkID(0, 0))
	if _, err := os.Stat(other); err != nil {
		t.Error(err)
	}
	if err := index.Reset(filepath.Join(dir, "nowhere")); err != nil {
		t.Errorf("Reset of nothing: %v", err)
	}
}

func TestReset_DoesNotFollowALink(t *testing.T) {
	dir, precious := memoryDir(t), memoryDir(t)
	if err := os.WriteFile(filepath.Join(precious, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(precious, filepath.Join(dir, "db")); err != nil {
		t.Fatal(err)
	}
	_, err := index.Open(options(dir))
	wantUnusable(t, err, true, "")
	if err := index.Reset(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(precious, "file")); err != nil {
		t.Error(err)
	}
}

func TestIndex_RefusesWorkWithoutSpace(t *testing.T) {
	dir := memoryDir(t)
	free := uint64(1 << 40)
	open := func() (*index.Index, error) {
		return index.OpenWithSpace(options(dir), func() uint64 { return free })
	}
	x, err := open()
	if err != nil {
		t.Fatal(err)
	}
	mustAdd(t, x, 1, packEntries(1, 10))
	free = 63 << 20
	wantUnusable(t, x.AddPack(packID(2), packEntries(2, 10)), false, "space")
	wantUnusable(t, x.RemovePack(packID(1), nil), false, "space")
	wantPlace(t, x, packEntries(1, 1)[0].ID, packEntries(1, 1)[0].Place)
	mustClose(t, x) // what is pending still fits
	_, err = open()
	wantUnusable(t, err, false, "space")
	free = 64 << 20
	x, err = open()
	if err != nil {
		t.Fatal(err)
	}
	wantPlace(t, x, packEntries(1, 1)[0].ID, packEntries(1, 1)[0].Place)
	wantMissing(t, x, packEntries(2, 1)[0].ID)
	mustClose(t, x)
}

func TestIndex_RefusesWorkAfterClose(t *testing.T) {
	x := mustOpen(t, memoryDir(t))
	mustClose(t, x)
	mustClose(t, x)
	_, _, err := x.Lookup(chunkID(1, 1))
	wantUnusable(t, err, false, "closed")
	_, err = x.Packs()
	wantUnusable(t, err, false, "closed")
	wantUnusable(t, x.AddPack(packID(1), nil), false, "closed")
	wantUnusable(t, x.RemovePack(packID(1), nil), false, "closed")
}

func TestIndex_LeavesNoGoroutineBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	dir := memoryDir(t)
	for p := range uint32(3) {
		x := mustOpen(t, dir)
		mustAdd(t, x, p, packEntries(p, 1000))
		mustClose(t, x)
	}
	im := cleanImage(t)
	im.one(t, "MANIFEST").set(20, im.one(t, "MANIFEST").at(20)^1)
	im.write(t, filepath.Join(dir, "damaged"))
	if _, err := index.Open(options(filepath.Join(dir, "damaged"))); err == nil {
		t.Error("Open took a damaged manifest")
	}
	var after int
	for range 3000 {
		if after = runtime.NumGoroutine(); after <= before {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	stacks := make([]byte, 1<<20)
	t.Errorf("%d goroutines, %d before:\n%s", after, before, stacks[:runtime.Stack(stacks, true)])
}

func TestOpen_LogsOnlyToTheLogger(t *testing.T) {
	var log bytes.Buffer
	o := options(memoryDir(t))
	o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelInfo}))
	x, err := index.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	mustAdd(t, x, 1, packEntries(1, 1000))
	mustClose(t, x)
	if log.Len() != 0 {
		t.Errorf("an uneventful life logs %q", log.String())
	}
}
