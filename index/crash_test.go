package index_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/generalbots/backupd/index"
)

// cutLog returns the ends of the whole transactions of a log.
func cutLog(t testing.TB, f *file) []int {
	t.Helper()
	data := make([]byte, f.size)
	copy(data, f.data)
	var ends []int
	for {
		_, _, end, err := index.VerifyLog(data)
		if err != nil {
			t.Fatal(err)
		}
		if end == index.LogHeaderSize {
			return ends
		}
		ends = append([]int{end}, ends...)
		clear(data[end-1:]) // breaks the end of the last transaction
	}
}

// A crash takes away the end of the log. Wherever it does, packs are there whole or not at all.
func TestOpen_FindsWholePacksWhereverTheLogEnds(t *testing.T) {
	const entries = 1100 // two transactions
	dir := memoryDir(t)
	x := mustOpen(t, dir)
	for p := range uint32(3) {
		mustAdd(t, x, p, packEntries(p, entries))
	}
	im := readImage(t, dir)
	mustClose(t, x)
	log := im.one(t, ".mem")
	ends := cutLog(t, log)
	if len(ends) != 6 {
		t.Fatalf("the log has %d transactions, want 6", len(ends))
	}

	r := rand.New(rand.NewPCG(1, 1))
	cuts := []int{0, 10, 19, 20, 21}
	for _, end := range ends {
		cuts = append(cuts, end-1, end, end+30)
	}
	for range 8 {
		cuts = append(cuts, r.IntN(len(log.data)))
	}
	seen := map[int]bool{} // numbers of packs
	for i, cut := range cuts {
		torn := im.clone()
		for name := range torn {
			if strings.HasSuffix(name, ".mem") {
				torn[name].data = log.data[:min(cut, len(log.data))]
			}
		}
		base := filepath.Join(dir, strconv.Itoa(i))
		torn.write(t, base)
		y, err := index.Open(options(base))
		if err != nil {
			t.Fatalf("log cut at %d: %v", cut, err)
		}
		packs, err := y.Packs()
		if err != nil {
			t.Fatal(err)
		}
		whole := 0
		for i, end := range ends {
			if i%2 == 1 && end <= cut {
				whole++
			}
		}
		// A torn end that was nothing but zeros is as good as there.
		if len(packs) != whole && !(len(packs) == whole+1 && cut >= ends[2*whole+1]-1) {
			t.Errorf("log cut at %d: %d packs, want %d", cut, len(packs), whole)
		}
		seen[len(packs)] = true
		for p := range uint32(3) {
			_, recorded := packs[packID(p)]
			for _, e := range packEntries(p, entries)[:500] {
				if got, ok, err := y.Lookup(e.ID); err != nil || ok != recorded || ok && got != e.Place {
					t.Fatalf("log cut at %d, pack %d recorded %v: Lookup = %+v, %v, %v", cut, p, recorded, got, ok, err)
				}
			}
		}
		if i%6 != 0 {
			mustClose(t, y)
			continue
		}
		// What was lost can be added, and stays.
		for p := range uint32(3) {
			mustAdd(t, y, p, packEntries(p, entries))
		}
		mustClose(t, y)
		y = mustOpen(t, base)
		if packs, err := y.Packs(); err != nil || len(packs) != 3 {
			t.Errorf("after adding again: %d packs, %v", len(packs), err)
		}
		wantPlace(t, y, packEntries(2, 1)[0].ID, packEntries(2, 1)[0].Place)
		mustClose(t, y)
	}
	if len(seen) != 4 {
		t.Errorf("the cuts left %v packs, want each of 0 to 3 somewhere", seen)
	}
}

// Of two logs the older may have lost its end in a power cut: then it is not a suffix that is lost.
func TestOpen_RefusesLogsWithAGapBetween(t *testing.T) {
	dir := memoryDir(t)
	x := mustOpen(t, dir)
	for p := range uint32(imagePacks) {
		mustAdd(t, x, p, packEntries(p, imageEntries))
	}
	im := readImage(t, dir)
	mustClose(t, x)
	log := im.one(t, ".mem")
	ends := cutLog(t, log)
	name := im.names(".mem")[0]

	split := func(upTo, from int) image {
		two := im.clone()
		delete(two, name)
		header := log.data[:index.LogHeaderSize]
		two["db/00001.mem"] = &file{data: log.data[:upTo], size: log.size}
		two["db/00002.mem"] = &file{data: append(header[:len(header):len(header)], log.data[from:]...), size: log.size}
		return two
	}
	found, err := checkImage(t, split(ends[2], ends[2]), filepath.Join(dir, "whole"), true)
	if err != nil || found != imagePacks*imageEntries {
		t.Errorf("two logs without a gap: found %d, %v", found, err)
	}
	var unusable *index.UnusableError
	_, err = checkImage(t, split(ends[2], ends[3]), filepath.Join(dir, "gap"), true)
	if !errors.As(err, &unusable) || !unusable.Resettable {
		t.Errorf("two logs with a gap: %v; want a resettable *UnusableError", err)
	}
}

// addEnv names an index to which a child process adds packs until it is killed.
const addEnv = "BACKUPD_INDEX_ADD_TO"

func addUntilKilled(dir string) error {
	x, err := index.Open(options(dir))
	if err != nil {
		return err
	}
	packs, err := x.Packs()
	if err != nil {
		return err
	}
	for p := uint32(len(packs)); ; p++ {
		if err := x.AddPack(packID(p), packEntries(p, 3000)); err != nil {
			return err
		}
		fmt.Println(p)
	}
}

// A killed process loses nothing that AddPack has returned for; the next goes on behind it.
func TestOpen_FindsEverythingAfterAKill(t *testing.T) {
	const seed = 3
	r := rand.New(rand.NewPCG(seed, seed))
	dir := memoryDir(t)
	for round := range 6 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), addEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// The first line: it is open, and adding. Long enough for the memtable to be flushed some times.
		var first uint32
		if _, err := fmt.Fscanln(out, &first); err != nil {
			t.Fatalf("round %d: the child did not start: %v", round, err)
		}
		timer := time.AfterFunc(time.Duration(r.IntN(400))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		lines, _ := io.ReadAll(out)
		timer.Stop()
		_ = cmd.Wait()
		acknowledged := first + 1 + uint32(strings.Count(string(lines), "\n"))

		x := mustOpen(t, dir)
		packs, err := x.Packs()
		if err != nil || uint32(len(packs)) < acknowledged || uint32(len(packs)) > acknowledged+1 {
			t.Fatalf("round %d: %d packs, %v; %d were acknowledged", round, len(packs), err, acknowledged)
		}
		for p := range uint32(len(packs)) {
			entries := packEntries(p, 3000)
			for i := 0; i < len(entries); i += 61 {
				wantPlace(t, x, entries[i].ID, entries[i].Place)
			}
		}
		if round%2 == 0 {
			mustClose(t, x)
			continue
		}
		// Every other time the child opens what nobody closed.
		im := readImage(t, dir)
		mustClose(t, x)
		dir = filepath.Join(memoryDir(t), strconv.Itoa(round))
		im.write(t, dir)
	}
}

// Damage that kills the process in Open, or some time later each time, does not do so for ever.
func TestOpen_GivesUpAfterSomeCrashes(t *testing.T) {
	dir := memoryDir(t)
	x := mustOpen(t, dir)
	mustAdd(t, x, 0, packEntries(0, 10))
	var unusable *index.UnusableError
	const most = 8
	for crash := range most {
		im := readImage(t, dir)
		mustClose(t, x)
		dir = filepath.Join(memoryDir(t), "crashed")
		im.write(t, dir)
		var err error
		x, err = index.Open(options(dir))
		if crash < most-1 && err != nil {
			t.Fatalf("Open after crash %d: %v", crash+1, err)
		}
		if crash == most-1 && (!errors.As(err, &unusable) || !unusable.Resettable) {
			t.Fatalf("Open after crash %d: %v; want a resettable *UnusableError", crash+1, err)
		}
	}
	if err := index.Reset(dir); err != nil {
		t.Fatal(err)
	}
	mustClose(t, mustOpen(t, dir))
}

func FuzzVerifyLog(f *testing.F) {
	im := crashedImage(f)
	log := im.one(f, ".mem")
	f.Add(log.data[:min(len(log.data), 2000)])
	f.Add(make([]byte, 100))
	f.Fuzz(func(t *testing.T, data []byte) {
		first, last, end, err := index.VerifyLog(data)
		if err == nil && (first > last || end > len(data)) {
			t.Errorf("versions %d to %d, end %d of %d", first, last, end, len(data))
		}
	})
}

func FuzzVerifyTable(f *testing.F) {
	im := cleanImage(f)
	table := im[im.names(".sst")[0]].data
	f.Add(table[len(table)-5000:])
	f.Add(table[len(table)-1000:])
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = index.VerifyTable(data)
	})
}

func FuzzDecodeState(f *testing.F) {
	im := cleanImage(f)
	f.Add(im["state"].data)
	f.Add(binary.BigEndian.AppendUint64(nil, 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		if files, err := index.DecodeState(options(""), data); err == nil && files > len(data) {
			t.Errorf("%d files in %d bytes", files, len(data))
		}
	})
}
