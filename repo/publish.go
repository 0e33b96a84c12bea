package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
)

// publishAttempts is how often a number is taken anew because another process
// had used it.
const publishAttempts = 3

// errUnsure: a manifest or record is in the repository, but the store could
// not promise that it lasts. It is not taken back: the chain has it now, and
// the next number follows on it. store.Dir.Sweep makes it last.
var errUnsure = errors.New("it is in the repository, but whether it survives a power cut is not known")

// publisher adds files to one writer's chain. One goroutine may use it, which
// holds the repository's writer lock.
//
// A file is stored under its number with a name that must be free, so nothing
// is ever overwritten: not by a second process with a copy of this writer's
// state, and not after an attempt that failed and happened all the same. In
// both cases the directory is read again, and the next number follows on
// what is there.
type publisher struct {
	st     store.Store
	keys   *fileKeys
	writer writerID
	chain  *chain // what is in the repository; stale when the last attempt failed
	stale  bool
}

// snapshot publishes a manifest: the one point where a backup comes into
// being. Everything it reaches is durable already. What is too long for a
// manifest is cut. store errors come as they are; errUnsure comes with one.
func (p *publisher) snapshot(ctx context.Context, m *Manifest) (*Snapshot, error) {
	m = m.fit()
	if err := m.validate(); err != nil {
		return nil, fmt.Errorf("snapshot %s can not be written: %v", m.ID, err)
	}
	// Before the first try and after one that may have happened.
	if err := p.refresh(ctx); err != nil {
		return nil, err
	}
	if p.chain.find(m.ID) != nil {
		return nil, fmt.Errorf("snapshot %s is in the repository already", m.ID)
	}
	if err := p.publish(ctx, &chainBody{Snapshot: m}); err != nil {
		return nil, err
	}
	return p.chain.find(m.ID), nil
}

// weigh adds the size of the file that m will be to the bytes it says it stored. The
// number is part of what it counts: it settles when its digits do.
func (p *publisher) weigh(m *Manifest) error {
	b := chainBody{Snapshot: m.fit()}
	if p.chain != nil {
		b.Prev = p.chain.ends[p.writer].wholeHash
	}
	others, own := m.Totals.BytesStored, int64(0)
	for range 3 {
		b.Snapshot.Totals.BytesStored = others + own
		plain, err := json.Marshal(&b)
		if err != nil {
			return fmt.Errorf("snapshot %s can not be written: %v", m.ID, err)
		}
		size := sealedSize(len(plain))
		if size == own {
			break
		}
		own = size
	}
	m.Totals.BytesStored = others + own
	return nil
}

// forget publishes a record that a live snapshot is to go.
func (p *publisher) forget(ctx context.Context, id string, now time.Time) error {
	if err := p.refresh(ctx); err != nil {
		return err
	}
	s := p.chain.find(id)
	if s == nil {
		return fmt.Errorf("snapshot %s: %w", id, ErrNotFound)
	}
	if s.Forgotten {
		return nil
	}
	f := p.chain.files[s.at]
	return p.publish(ctx, &chainBody{Forget: &forgetRecord{
		At: utc(now), ID: id, Writer: s.at.writer, Seq: s.at.seq, Hash: f.hash, Prev: f.body.Prev,
	}})
}

// undelete publishes what takes back that a snapshot is forgotten. Once gc
// has removed the manifest it is ErrNotFound.
func (p *publisher) undelete(ctx context.Context, id string, now time.Time) error {
	if err := p.refresh(ctx); err != nil {
		return err
	}
	s := p.chain.find(id)
	if s == nil {
		return fmt.Errorf("snapshot %s: %w: it never was here, or gc has removed it", id, ErrNotFound)
	}
	for _, at := range p.chain.forgets[s.at] {
		err := p.publish(ctx, &chainBody{Undelete: &undeleteRecord{At: utc(now), ID: id, Writer: at.writer, Seq: at.seq}})
		if err != nil {
			return err
		}
	}
	return nil
}

// forgetLost publishes a record that a file of the chain, damaged or gone, is
// given up. It is how a person tells gc that nothing is to be waited for.
func (p *publisher) forgetLost(ctx context.Context, at place, now time.Time) error {
	if err := p.refresh(ctx); err != nil {
		return err
	}
	c := p.chain
	f := c.files[at]
	if f != nil && f.body != nil {
		return fmt.Errorf("%s is not damaged; forget the snapshot by its id", f.name)
	}
	end := c.ends[at.writer]
	if at.seq == 0 || at.seq > end.seq {
		return fmt.Errorf("%s: %w", at.name(), ErrNotFound)
	}
	if at.seq > end.wholeSeq+1 {
		return fmt.Errorf("%s: nothing says that there ever was a file of this number; move it away, or give up number %d first", at.name(), end.wholeSeq+1)
	}
	if len(c.forgets[at]) > 0 {
		return nil
	}
	r := &forgetRecord{At: utc(now), Writer: at.writer, Seq: at.seq}
	r.Hash, _ = c.hashAt(at)
	if r.Hash == (hash{}) && f != nil {
		r.Hash = f.hash
	}
	if at.seq > 1 {
		r.Prev, _ = c.hashAt(place{at.writer, at.seq - 1})
	}
	return p.publish(ctx, &chainBody{Forget: r})
}

// refresh reads the directory again after an attempt whose outcome is not
// known.
func (p *publisher) refresh(ctx context.Context) error {
	if p.chain != nil && !p.stale {
		return nil
	}
	c, err := loadChain(ctx, p.st, p.keys)
	if err != nil {
		return err
	}
	p.chain, p.stale = c, false
	return nil
}

// publish gives body the writer's next number and stores it. It returns nil
// only when the file is durable.
func (p *publisher) publish(ctx context.Context, body *chainBody) error {
	for range publishAttempts {
		if err := p.refresh(ctx); err != nil {
			return err
		}
		f, sealed, err := p.next(body)
		if err != nil {
			return err
		}
		err = writeObject(ctx, p.st, f.name, sealed)
		if err == nil {
			if f.body.Snapshot != nil {
				f.body.Snapshot.Problems = nil
			}
			p.chain = newChain(append(p.chain.list(), f))
			return nil
		}
		// From here on only the directory knows. It is read even when ctx is
		// over, so that the answer says what happened.
		p.stale = true
		if p.refresh(context.WithoutCancel(ctx)) != nil {
			return err
		}
		if there := p.chain.files[f.at]; there != nil && there.hash == f.hash {
			return fmt.Errorf("%s: %w: %w", f.name, errUnsure, err)
		}
		if !errors.Is(err, store.ErrExist) {
			return err
		}
	}
	return fmt.Errorf("%s: another process writes as writer %x; it must have a state directory of its own", snapshotDir, p.writer[:])
}

// next makes the file that follows on the writer's last, and reads it back as
// any reader would before it is stored.
func (p *publisher) next(body *chainBody) (*chainFile, []byte, error) {
	end := p.chain.ends[p.writer]
	if !p.chain.canContinue(p.writer) {
		return nil, nil, fmt.Errorf("%s: %w: nothing can follow on this file; open the repository again, which begins a new writer", place{p.writer, end.seq}.name(), ErrDamaged)
	}
	at := place{p.writer, end.seq + 1}
	b := *body
	b.Prev = end.wholeHash
	sealed, err := p.keys.seal(at.name(), sealedHeader{kind: b.kind(), writer: at.writer, seq: at.seq}, &b)
	if err != nil {
		return nil, nil, err
	}
	f := openChainFile(p.keys, at, sealed)
	if f.err != nil {
		return nil, nil, fmt.Errorf("what was just sealed can not be read, it is not stored: %w", f.err)
	}
	return f, sealed, nil
}

// newWriter draws a writer id.
func newWriter() (writerID, error) {
	id, err := crypto.NewRepoID()
	return writerID(id), err
}
