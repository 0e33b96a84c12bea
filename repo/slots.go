package repo

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
)

// slotDir holds the key slots: slotDir/<slot id, 8 hexadecimal digits>.
const slotDir = "keys"

func slotName(id uint32) string { return fmt.Sprintf("%s/%08x", slotDir, id) }

// parseSlotID reads a slot id as listings show it.
func parseSlotID(s string) (uint32, error) {
	id, err := strconv.ParseUint(s, 16, 32)
	if err != nil || fmt.Sprintf("%08x", id) != s {
		return 0, fmt.Errorf("%q is no slot id, which has 8 hexadecimal digits", s)
	}
	return uint32(id), nil
}

// storedSlot is a slot as it was found. err says what is wrong with it; info
// is empty then.
type storedSlot struct {
	name string // of the object
	info crypto.SlotInfo
	raw  []byte
	err  error
}

// listSlots reads all key slots, in the order of their names. A slot that can
// not be used, such as one of another repository, is in the list with its
// error; an error of the listing itself is returned.
func listSlots(ctx context.Context, st store.Store, repo crypto.RepoID) ([]storedSlot, error) {
	objects, err := st.List(ctx, slotDir)
	if err != nil {
		return nil, err
	}
	if len(objects) > MaxSlots {
		return nil, fmt.Errorf("%s: %w: %d objects, a repository has at most %d key slots; remove what does not belong there", slotDir, ErrDamaged, len(objects), MaxSlots)
	}
	slots := make([]storedSlot, 0, len(objects))
	for _, o := range objects {
		s := storedSlot{name: o.Name}
		s.raw, s.err = readObject(ctx, st, o.Name, MaxSlotSize, nil)
		if s.err == nil {
			s.info, s.err = parseStoredSlot(o.Name, s.raw, repo)
		}
		if errors.Is(s.err, store.ErrNotExist) {
			continue // removed between listing and reading
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		slots = append(slots, s)
	}
	return slots, nil
}

func parseStoredSlot(name string, raw []byte, repo crypto.RepoID) (crypto.SlotInfo, error) {
	info, err := crypto.CheckSlot(raw, repo)
	if err != nil {
		return crypto.SlotInfo{}, slotError(name, err)
	}
	if slotName(info.ID) != name {
		return crypto.SlotInfo{}, damagedFile(name, "it is slot %08x under another name", info.ID)
	}
	return info, nil
}

// slotError names the slot an error is about, and makes an invalid slot a
// damaged object.
func slotError(name string, err error) error {
	if errors.Is(err, crypto.ErrSlotInvalid) {
		return damagedFile(name, "%v", err)
	}
	return fmt.Errorf("%s: %v", name, err)
}

// addSlot stores a new slot that opens with s and holds m. The caller holds
// the writer's lock.
func addSlot(ctx context.Context, st store.Store, repo crypto.RepoID, m *crypto.MasterKey, epoch uint32, s newSlot, now time.Time) (crypto.SlotInfo, error) {
	objects, err := st.List(ctx, slotDir)
	if err != nil {
		return crypto.SlotInfo{}, err
	}
	if len(objects) >= MaxSlots {
		return crypto.SlotInfo{}, fmt.Errorf("there are %d key slots, the most a repository has; remove one first", len(objects))
	}
	for {
		var b [4]byte
		if _, err := rand.Read(b[:]); err != nil {
			return crypto.SlotInfo{}, err
		}
		info := crypto.SlotInfo{
			ID: binary.LittleEndian.Uint32(b[:]), Kind: s.credential.Kind(), Epoch: epoch, Label: s.label,
			CreatedUnix: max(now.Unix(), 0), Params: s.params,
		}
		raw, err := crypto.SealSlot(m, repo, info, s.credential)
		if err != nil {
			return crypto.SlotInfo{}, err
		}
		// What is read back is what counts, defaults included.
		if info, err = parseStoredSlot(slotName(info.ID), raw, repo); err != nil {
			return crypto.SlotInfo{}, err
		}
		if err := proveSlot(raw, repo, m, s.credential); err != nil {
			return crypto.SlotInfo{}, err
		}
		err = writeObject(ctx, st, slotName(info.ID), raw)
		if errors.Is(err, store.ErrExist) {
			continue // another slot has drawn the number
		}
		return info, err
	}
}

// proveSlot opens a slot that was just sealed, before it is stored: somebody
// may remove another one because there is this one.
func proveSlot(raw []byte, repo crypto.RepoID, m *crypto.MasterKey, c crypto.Credential) error {
	got, err := crypto.OpenSlot(raw, repo, c)
	if err != nil {
		return fmt.Errorf("the key slot that was just made does not open, it is not stored (memory or processor at fault?): %v", err)
	}
	defer got.Wipe()
	if got.Derive(crypto.PurposeConfig) != m.Derive(crypto.PurposeConfig) {
		return errors.New("the key slot that was just made holds another key, it is not stored (memory or processor at fault?)")
	}
	return nil
}

// removeSlot removes the slot of that id, unless no other slot that can be
// read would be left. It can not know whether anybody still has what opens
// the others. The caller holds the writer's lock.
func removeSlot(ctx context.Context, st store.Store, repo crypto.RepoID, id uint32) error {
	slots, err := listSlots(ctx, st, repo)
	if err != nil {
		return err
	}
	name := slotName(id)
	if !slices.ContainsFunc(slots, func(s storedSlot) bool { return s.name == name }) {
		return fmt.Errorf("key slot %08x: %w", id, ErrNotFound)
	}
	if !slices.ContainsFunc(slots, func(s storedSlot) bool { return s.name != name && s.err == nil }) {
		return fmt.Errorf("key slot %08x is the last that can open the repository; add another one before you remove it", id)
	}
	return st.Remove(ctx, name)
}

// openSlots returns the master key from the first slot that c opens, and that
// slot. Each passphrase slot costs its argon2id; the newest is tried first.
// crypto.ErrWrongKey when no slot opens; damaged slots are named beside it.
func openSlots(ctx context.Context, st store.Store, repo crypto.RepoID, c crypto.Credential) (*crypto.MasterKey, crypto.SlotInfo, error) {
	slots, err := listSlots(ctx, st, repo)
	if err != nil {
		return nil, crypto.SlotInfo{}, err
	}
	slices.SortStableFunc(slots, func(a, b storedSlot) int { return cmp.Compare(b.info.CreatedUnix, a.info.CreatedUnix) })
	var kinds []string
	var bad []error
	tried := 0
	for _, s := range slots {
		if s.err != nil {
			bad = append(bad, s.err)
			continue
		}
		if kind := s.info.Kind.String(); !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
		if s.info.Kind != c.Kind() {
			continue
		}
		if ctx.Err() != nil {
			return nil, crypto.SlotInfo{}, context.Cause(ctx)
		}
		tried++
		m, err := crypto.OpenSlot(s.raw, repo, c)
		if err == nil {
			return m, s.info, nil
		}
		if !errors.Is(err, crypto.ErrWrongKey) {
			bad = append(bad, slotError(s.name, err))
		}
	}
	slices.Sort(kinds)
	switch {
	case len(bad) > 0 && len(kinds) == 0:
		return nil, crypto.SlotInfo{}, fmt.Errorf("no key slot can be used: %w", errors.Join(bad...))
	case len(bad) > 0:
		return nil, crypto.SlotInfo{}, fmt.Errorf("%w for the slots that can be read (%s), and %w", crypto.ErrWrongKey, strings.Join(kinds, ", "), errors.Join(bad...))
	case len(slots) == 0:
		return nil, crypto.SlotInfo{}, fmt.Errorf("%s: %w: there is no key slot; put the files of this directory back from another copy of the repository", slotDir, ErrDamaged)
	case tried == 0:
		return nil, crypto.SlotInfo{}, fmt.Errorf("%w: the repository has no slot for a %v, it opens with: %s", crypto.ErrWrongKey, c.Kind(), strings.Join(kinds, ", "))
	}
	return nil, crypto.SlotInfo{}, crypto.ErrWrongKey
}
