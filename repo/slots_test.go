package repo

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
)

// createFault is a store that can not create the object name.
type createFault struct {
	store.Store
	name string
}

func (s *createFault) Create(ctx context.Context, name string, size int64) (store.Writer, error) {
	if name == s.name {
		return nil, errors.New("no room for " + name)
	}
	return s.Store.Create(ctx, name, size)
}

// slotTest is a store with key slots alone.
type slotTest struct {
	*testing.T
	st store.Store
	id crypto.RepoID
	m  *crypto.MasterKey
}

func newSlotTest(t *testing.T) *slotTest {
	t.Helper()
	m, err := crypto.GenerateMasterKey()
	if err != nil {
		t.Fatal(err)
	}
	return &slotTest{T: t, st: store.NewMem(), id: crypto.RepoID{7}, m: m}
}

// add makes a slot for a new key file.
func (t *slotTest) add(at time.Time) (uint32, crypto.Credential) {
	t.Helper()
	slots, cred := slotsFor(t)
	info, err := addSlot(t.Context(), t.st, t.id, t.m, 1, slots[0], at)
	if err != nil {
		t.Fatal(err)
	}
	return info.ID, cred
}

func (t *slotTest) open(c crypto.Credential) error {
	t.Helper()
	m, _, err := openSlots(t.Context(), t.st, t.id, c)
	if err == nil && m.Derive(crypto.PurposePack) != t.m.Derive(crypto.PurposePack) {
		t.Error("the slot gave another master key")
	}
	return err
}

func (t *slotTest) overwrite(name string, b []byte) {
	t.Helper()
	if err := t.st.Remove(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if err := writeObject(t.Context(), t.st, name, b); err != nil {
		t.Fatal(err)
	}
}

func TestSlots_EachCredentialOpensTheSameMasterKey(t *testing.T) {
	s := newSlotTest(t)
	_, first := s.add(testNow)
	_, second := s.add(testNow.Add(time.Hour))
	pass, err := crypto.PassphraseCredential([]byte("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := addSlot(t.Context(), s.st, s.id, s.m, 1, newSlot{label: "people", credential: pass, params: crypto.SlotParams{Time: 1, MemoryKiB: 64 << 10, Threads: 2}}, testNow)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]crypto.Credential{"first": first, "second": second, "passphrase": pass} {
		if err := s.open(c); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	wrong, err := crypto.PassphraseCredential([]byte("correct house"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.open(wrong); !errors.Is(err, crypto.ErrWrongKey) || errors.Is(err, ErrDamaged) {
		t.Errorf("wrong passphrase: got error %v, want ErrWrongKey", err)
	}
	_, recovery, err := crypto.NewRecoveryCode()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.open(recovery); !errors.Is(err, crypto.ErrWrongKey) || !strings.Contains(err.Error(), "key file, passphrase") {
		t.Errorf("no slot of the kind: got error %v, want ErrWrongKey and the kinds there are", err)
	}
	if info.Label != "people" || info.Kind != crypto.SlotPassphrase {
		t.Errorf("got slot %+v", info)
	}
}

func TestSlots_TheLastUsableOneStays(t *testing.T) {
	s := newSlotTest(t)
	first, _ := s.add(testNow)
	if err := removeSlot(t.Context(), s.st, s.id, first); err == nil || !strings.Contains(err.Error(), "last") {
		t.Errorf("the only slot: got error %v", err)
	}
	second, cred := s.add(testNow)
	if err := removeSlot(t.Context(), s.st, s.id, first+second); !errors.Is(err, ErrNotFound) {
		t.Errorf("a slot that is not there: got error %v, want ErrNotFound", err)
	}
	raw, err := readObject(t.Context(), s.st, slotName(first), MaxSlotSize, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw[100] ^= 1
	s.overwrite(slotName(first), raw)
	if err := removeSlot(t.Context(), s.st, s.id, second); err == nil {
		t.Error("the last slot that can be read was removed beside a damaged one")
	}
	if err := removeSlot(t.Context(), s.st, s.id, first); err != nil {
		t.Errorf("the damaged slot: %v", err)
	}
	if err := s.open(cred); err != nil {
		t.Errorf("the slot that is left: %v", err)
	}
}

func TestSlots_DamagedOnesAreNamedAndDoNotHideTheOthers(t *testing.T) {
	s := newSlotTest(t)
	bad, badCred := s.add(testNow)
	_, cred := s.add(testNow)
	whole, err := readObject(t.Context(), s.st, slotName(bad), MaxSlotSize, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		b := append([]byte(nil), whole...)
		b[i] ^= 0x10
		s.overwrite(slotName(bad), b)
		if err := s.open(cred); err != nil {
			t.Fatalf("byte %d: the whole slot does not open: %v", i, err)
		}
		err := s.open(badCred)
		if !errors.Is(err, ErrDamaged) || !errors.Is(err, crypto.ErrWrongKey) || !strings.Contains(err.Error(), slotName(bad)) {
			t.Fatalf("byte %d: got error %v, want one that names the slot", i, err)
		}
	}
	for _, n := range []int{0, 1, len(whole) - 1} {
		s.overwrite(slotName(bad), whole[:n])
		if err := s.open(badCred); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d: got error %v", n, err)
		}
	}
}

func TestSlots_RefusesASlotUnderAnotherNameOrOfAnotherRepository(t *testing.T) {
	s := newSlotTest(t)
	a, credA := s.add(testNow)
	b, _ := s.add(testNow)
	raw, err := readObject(t.Context(), s.st, slotName(a), MaxSlotSize, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.overwrite(slotName(b), raw)
	if err := s.st.Remove(t.Context(), slotName(a)); err != nil {
		t.Fatal(err)
	}
	if err := s.open(credA); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "under another name") {
		t.Errorf("swapped: got error %v", err)
	}
	s.overwrite(slotName(a), raw)
	if _, _, err := openSlots(t.Context(), s.st, crypto.RepoID{8}, credA); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "another repository") {
		t.Errorf("other repository: got error %v", err)
	}
}

func TestSlots_ThereIsAGreatestNumber(t *testing.T) {
	s := newSlotTest(t)
	for range MaxSlots {
		s.add(testNow)
	}
	slots, cred := slotsFor(t)
	if _, err := addSlot(t.Context(), s.st, s.id, s.m, 1, slots[0], testNow); err == nil {
		t.Error("one more slot than a repository has was added")
	}
	if err := s.open(cred); !errors.Is(err, crypto.ErrWrongKey) {
		t.Errorf("got error %v, want ErrWrongKey", err)
	}
	s.overwrite("keys/more", []byte("x"))
	if _, err := listSlots(t.Context(), s.st, s.id); !errors.Is(err, ErrDamaged) {
		t.Errorf("too many objects: got error %v, want ErrDamaged", err)
	}
}

func TestSlots_NoneAtAll(t *testing.T) {
	s := newSlotTest(t)
	_, cred := slotsFor(t)
	if err := s.open(cred); !errors.Is(err, ErrDamaged) {
		t.Errorf("got error %v, want ErrDamaged", err)
	}
}

func TestParseSlotID_HasOneSpelling(t *testing.T) {
	if id, err := parseSlotID("00ab12cd"); err != nil || id != 0xab12cd {
		t.Errorf("got %x, %v", id, err)
	}
	for _, s := range []string{"", "ab12cd", "00AB12CD", "+0ab12cd", "000ab12cd", "00ab12cx"} {
		if _, err := parseSlotID(s); err == nil {
			t.Errorf("%q is taken as a slot id", s)
		}
	}
}
