package crypto_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/generalbots/backupd/crypto"
)

// cheap are the least costs a passphrase slot may have.
var cheap = crypto.SlotParams{Time: 1, MemoryKiB: 64 << 10, Threads: 4}

var repoA, repoB = crypto.RepoID{0xa}, crypto.RepoID{0xb}

// Offsets of the slot's fields, as its drawing says.
const (
	atVersion, atKind, atThreads, atLabelLen = 8, 9, 10, 11
	atTime, atMemory, atEpoch, atID          = 12, 16, 20, 24
	atCreated, atRepo, atLabel, atSalt       = 28, 36, 52, 116
	atCommitment, atSealed, atChecksum       = 148, 180, 228
)

// resum makes the checksum fit again after a slot was changed.
func resum(slot []byte) []byte {
	sum := crypto.Sum256(slot[:atChecksum])
	copy(slot[atChecksum:], sum[:16])
	return slot
}

func credentials(tb testing.TB) []crypto.Credential {
	tb.Helper()
	pass, err1 := crypto.PassphraseCredential([]byte("correct horse"))
	file, err2 := crypto.KeyFileCredential(randomBytes(1, 32))
	code, err3 := crypto.RecoveryCredential(crypto.RecoveryCodeOf([32]byte(randomBytes(2, 32))))
	if err := errors.Join(err1, err2, err3); err != nil {
		tb.Fatal(err)
	}
	return []crypto.Credential{pass, file, code}
}

func seal(tb testing.TB, m *crypto.MasterKey, info crypto.SlotInfo, c crypto.Credential) []byte {
	tb.Helper()
	if c.Kind() == crypto.SlotPassphrase && info.Params == (crypto.SlotParams{}) {
		info.Params = cheap
	}
	slot, err := crypto.SealSlot(m, repoA, info, c)
	if err != nil {
		tb.Fatal(err)
	}
	return slot
}

func TestSlot_GivesTheMasterKeyBack(t *testing.T) {
	m := master(t, 7)
	for _, c := range credentials(t) {
		want := crypto.SlotInfo{ID: 3, Kind: c.Kind(), Epoch: 9, Label: "Büro-Schlüssel", CreatedUnix: 1_790_000_000}
		if c.Kind() == crypto.SlotPassphrase {
			want.Params = crypto.SlotParams{Time: 2, MemoryKiB: 65 << 10, Threads: 3}
		}
		slot := seal(t, m, want, c)
		if len(slot) != crypto.SlotSize {
			t.Errorf("%v: %d bytes, want %d", c.Kind(), len(slot), crypto.SlotSize)
		}
		if got, err := crypto.ParseSlot(slot); err != nil || got != want {
			t.Errorf("%v: ParseSlot gives %+v, %v", c.Kind(), got, err)
		}
		got, err := crypto.OpenSlot(slot, repoA, c)
		if err != nil {
			t.Fatalf("%v: %v", c.Kind(), err)
		}
		if got.Derive(crypto.PurposePack) != m.Derive(crypto.PurposePack) {
			t.Errorf("%v: another master key", c.Kind())
		}
		if secret := bytes.Repeat([]byte{7}, 8); bytes.Contains(slot, secret) {
			t.Errorf("%v: the master key stands in the slot", c.Kind())
		}
		if again := seal(t, m, want, c); bytes.Equal(again[atSalt:], slot[atSalt:]) {
			t.Errorf("%v: sealed twice to the same bytes", c.Kind())
		}
	}
}

func TestSealSlot_FillsKindAndCosts(t *testing.T) {
	creds := credentials(t)
	slot, err := crypto.SealSlot(master(t, 1), repoA, crypto.SlotInfo{Params: crypto.DefaultSlotParams()}, creds[1])
	if err != nil {
		t.Fatal(err)
	}
	info, err := crypto.ParseSlot(slot)
	if err != nil || info.Kind != crypto.SlotKeyFile || info.Params != (crypto.SlotParams{}) {
		t.Errorf("key file slot %+v, %v", info, err)
	}
	if got, want := crypto.DefaultSlotParams(), (crypto.SlotParams{Time: 3, MemoryKiB: 256 << 10, Threads: 4}); got != want {
		t.Errorf("default costs are %+v, want %+v", got, want)
	}
}

func TestOpenSlot_HasOneErrorForAWrongKey(t *testing.T) {
	m := master(t, 1)
	creds := credentials(t)
	secret := randomBytes(1, 32)
	otherPass, err1 := crypto.PassphraseCredential([]byte("correct horsf"))
	otherFile, err2 := crypto.KeyFileCredential(randomBytes(3, 32))
	otherCode, err3 := crypto.RecoveryCredential(crypto.RecoveryCodeOf([32]byte(randomBytes(4, 32))))
	// The same 32 bytes as the key file, as a code and typed in hexadecimal.
	asCode, err4 := crypto.RecoveryCredential(crypto.RecoveryCodeOf([32]byte(secret)))
	asPass, err5 := crypto.PassphraseCredential([]byte(hex.EncodeToString(secret)))
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		t.Fatal(err)
	}
	all := append(creds, otherPass, otherFile, otherCode, asCode, asPass)
	for i, c := range creds {
		slot := seal(t, m, crypto.SlotInfo{}, c)
		for j, try := range all {
			_, err := crypto.OpenSlot(slot, repoA, try)
			if i == j && err != nil {
				t.Errorf("%v: %v", c.Kind(), err)
			}
			if i != j && err != crypto.ErrWrongKey {
				t.Errorf("slot for a %v, credential %d: got %v, want ErrWrongKey itself", c.Kind(), j, err)
			}
		}
	}
}

// The slot of one kind opens with no other kind's credential of the same bytes,
// even when its clear bytes are changed to say so.
func TestOpenSlot_KeepsKindsApart(t *testing.T) {
	secret := randomBytes(1, 32)
	file, err1 := crypto.KeyFileCredential(secret)
	code, err2 := crypto.RecoveryCredential(crypto.RecoveryCodeOf([32]byte(secret)))
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	slot := seal(t, master(t, 1), crypto.SlotInfo{}, file)
	slot[atKind] = byte(crypto.SlotRecovery)
	if _, err := crypto.OpenSlot(resum(slot), repoA, code); err != crypto.ErrWrongKey {
		t.Errorf("got %v, want ErrWrongKey", err)
	}
}

func TestSlot_EveryFlippedBitIsFoundWithoutAKey(t *testing.T) {
	for _, c := range credentials(t) {
		slot := seal(t, master(t, 1), crypto.SlotInfo{Label: "office"}, c)
		for i := range slot {
			for bit := range 8 {
				bad := bytes.Clone(slot)
				bad[i] ^= 1 << bit
				if _, err := crypto.ParseSlot(bad); !errors.Is(err, crypto.ErrSlotInvalid) {
					t.Errorf("%v: bit %d of byte %d: ParseSlot gives %v", c.Kind(), bit, i, err)
				}
				if _, err := crypto.OpenSlot(bad, repoA, c); !errors.Is(err, crypto.ErrSlotInvalid) {
					t.Errorf("%v: bit %d of byte %d: OpenSlot gives %v", c.Kind(), bit, i, err)
				}
			}
		}
		for n := range slot {
			if _, err := crypto.ParseSlot(slot[:n]); !errors.Is(err, crypto.ErrSlotInvalid) {
				t.Errorf("%v: cut to %d bytes: %v", c.Kind(), n, err)
			}
		}
		if _, err := crypto.ParseSlot(append(bytes.Clone(slot), 0)); !errors.Is(err, crypto.ErrSlotInvalid) {
			t.Errorf("%v: a byte longer: %v", c.Kind(), err)
		}
	}
}

// Someone who changes a slot also mends its checksum; the seal must not care.
func TestSlot_EveryForgedByteIsRejected(t *testing.T) {
	for _, c := range credentials(t)[1:] {
		slot := seal(t, master(t, 1), crypto.SlotInfo{Label: "office", Epoch: 1, ID: 1}, c)
		for i := range atChecksum {
			for bit := range 8 {
				bad := bytes.Clone(slot)
				bad[i] ^= 1 << bit
				_, err := crypto.OpenSlot(resum(bad), repoA, c)
				if !errors.Is(err, crypto.ErrSlotInvalid) && err != crypto.ErrWrongKey {
					t.Errorf("%v: bit %d of byte %d: %v", c.Kind(), bit, i, err)
				}
			}
		}
	}
}

func TestPassphraseSlot_ForgedFieldsAreRejected(t *testing.T) {
	c := credentials(t)[0]
	slot := seal(t, master(t, 1), crypto.SlotInfo{Label: "office"}, c)
	if _, err := crypto.OpenSlot(resum(bytes.Clone(slot)), repoA, c); err != nil {
		t.Fatal("the unchanged slot does not open")
	}
	for name, at := range map[string]int{
		"threads": atThreads, "passes": atTime + 3, "memory": atMemory + 3, "epoch": atEpoch, "id": atID + 3,
		"created": atCreated + 7, "repository": atRepo, "label": atLabel, "salt": atSalt, "commitment": atCommitment,
		"sealed key": atSealed, "tag": atChecksum - 1,
	} {
		bad := bytes.Clone(slot)
		bad[at] ^= 1
		_, err := crypto.OpenSlot(resum(bad), repoA, c)
		if !errors.Is(err, crypto.ErrSlotInvalid) && err != crypto.ErrWrongKey {
			t.Errorf("%s changed: %v", name, err)
		}
	}
}

func TestOpenSlot_TellsAForeignSlotAndAnAlteredOneFromAWrongKey(t *testing.T) {
	c := credentials(t)[1]
	slot := seal(t, master(t, 1), crypto.SlotInfo{}, c)
	if _, err := crypto.OpenSlot(slot, repoB, c); !errors.Is(err, crypto.ErrSlotInvalid) {
		t.Errorf("a slot of another repository: %v", err)
	}
	moved := bytes.Clone(slot)
	copy(moved[atRepo:], repoB[:])
	if _, err := crypto.OpenSlot(resum(moved), repoB, c); !errors.Is(err, crypto.ErrSlotInvalid) {
		t.Errorf("a slot relabelled for another repository: %v", err)
	}
	epoch := bytes.Clone(slot)
	epoch[atEpoch]++
	if _, err := crypto.OpenSlot(resum(epoch), repoA, c); !errors.Is(err, crypto.ErrSlotInvalid) {
		t.Errorf("a slot of another epoch: %v", err)
	}
}

// The caps hold before any memory is taken: a hostile slot costs next to nothing.
func TestSlot_CapsHoldBeforeMemoryIsTaken(t *testing.T) {
	c := credentials(t)[0]
	slot := seal(t, master(t, 1), crypto.SlotInfo{}, c)
	for _, bad := range []struct {
		name    string
		t, m    uint32
		threads uint8
	}{
		{"memory just above 1 GiB", 1, 1<<20 + 1, 1},
		{"memory 4 TiB", 1, 1<<32 - 1, 1},
		{"memory below the floor", 1, 64<<10 - 1, 1},
		{"memory 0", 1, 0, 1},
		{"17 passes", 17, 64 << 10, 1},
		{"all the passes there are", 1<<32 - 1, 64 << 10, 1},
		{"no pass", 0, 64 << 10, 1},
		{"17 threads", 1, 64 << 10, 17},
		{"255 threads", 1, 64 << 10, 255},
		{"no thread", 1, 64 << 10, 0},
	} {
		b := bytes.Clone(slot)
		binary.BigEndian.PutUint32(b[atTime:], bad.t)
		binary.BigEndian.PutUint32(b[atMemory:], bad.m)
		b[atThreads] = bad.threads
		resum(b)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := crypto.OpenSlot(b, repoA, c)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, crypto.ErrSlotInvalid) {
			t.Errorf("%s: got %v, want ErrSlotInvalid", bad.name, err)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 64<<10 {
			t.Errorf("%s: %d bytes were allocated", bad.name, got)
		}
		params := crypto.SlotParams{Time: bad.t, MemoryKiB: bad.m, Threads: bad.threads}
		if _, err := crypto.SealSlot(master(t, 1), repoA, crypto.SlotInfo{Params: params}, c); !errors.Is(err, crypto.ErrSlotInvalid) {
			t.Errorf("%s: SealSlot gives %v, want ErrSlotInvalid", bad.name, err)
		}
	}
}

func TestSealSlot_RefusesWhatParseSlotWould(t *testing.T) {
	c := credentials(t)[1]
	for name, info := range map[string]crypto.SlotInfo{
		"long label":             {Label: strings.Repeat("a", crypto.MaxSlotLabel+1)},
		"label not UTF-8":        {Label: "\xff"},
		"escape sequence":        {Label: "\x1b[2J"},
		"line break":             {Label: "a\nb"},
		"right-to-left override": {Label: "a\u202eb"},
		"before 1970":            {CreatedUnix: -1},
		"another kind":           {Kind: crypto.SlotRecovery},
		"unknown kind":           {Kind: 4},
	} {
		if _, err := crypto.SealSlot(master(t, 1), repoA, info, c); !errors.Is(err, crypto.ErrSlotInvalid) {
			t.Errorf("%s: got %v, want ErrSlotInvalid", name, err)
		}
	}
	longest := crypto.SlotInfo{Label: strings.Repeat("ü", crypto.MaxSlotLabel/2)}
	if _, err := crypto.SealSlot(master(t, 1), repoA, longest, c); err != nil {
		t.Errorf("the longest label: %v", err)
	}
}

func FuzzParseSlot(f *testing.F) {
	for _, c := range credentials(f) {
		f.Add(seal(f, master(f, 1), crypto.SlotInfo{Label: "office"}, c))
	}
	f.Add([]byte{})
	f.Add(make([]byte, crypto.SlotSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == crypto.SlotSize {
			b = resum(bytes.Clone(b))
		}
		info, err := crypto.ParseSlot(b)
		if err != nil {
			if !errors.Is(err, crypto.ErrSlotInvalid) || info != (crypto.SlotInfo{}) {
				t.Fatalf("%+v, %v", info, err)
			}
			return
		}
		if len(info.Label) > crypto.MaxSlotLabel || info.Params.MemoryKiB > 1<<20 || info.Params.Time > 16 || info.Params.Threads > 16 {
			t.Fatalf("beyond the caps: %+v", info)
		}
		// Decode, encode, decode: what a slot can say, SealSlot can write.
		for _, c := range credentials(t) {
			if c.Kind() != info.Kind || info.Kind == crypto.SlotPassphrase {
				continue
			}
			m := master(t, 1)
			if again, err := crypto.ParseSlot(seal(t, m, info, c)); err != nil || again != info {
				t.Fatalf("%+v became %+v, %v", info, again, err)
			}
			m.Wipe()
		}
	})
}

// The key file slot, so that no password is hashed; from a file, because all
// workers of a fuzzer must know the same one.
func FuzzOpenSlot(f *testing.F) {
	v := readVector(f, "testdata/good/slot-key-file.txt")
	good, c, repo := v.bytes("slot"), v.credential(), crypto.RepoID(v.bytes("repo"))
	f.Add(good, 0, byte(0))
	f.Add(good, atSealed, byte(1))
	f.Add(good, atKind, byte(1))
	f.Fuzz(func(t *testing.T, b []byte, at int, flip byte) {
		if len(b) != crypto.SlotSize || at < 0 || at >= len(b) {
			return
		}
		b = bytes.Clone(b)
		b[at] ^= flip
		resum(b)
		m, err := crypto.OpenSlot(b, repo, c)
		if err == nil {
			m.Wipe()
		}
		if err != nil && err != crypto.ErrWrongKey && !errors.Is(err, crypto.ErrSlotInvalid) {
			t.Fatal(err)
		}
		if err == nil && !bytes.Equal(b, good) {
			t.Fatalf("forged: %x", b)
		}
	})
}
