package auth

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/durable"
)

// AuditFileName is the audit log's name in the state directory.
const AuditFileName = "audit.log"

// ErrAuditDamaged is an audit log whose last line is not one that this key wrote:
// it was changed, or belongs to another repository. Nothing of it is touched.
var ErrAuditDamaged = errors.New("the end of the audit log is damaged or of another repository: keep it as evidence, " +
	"look with `backupd debug audit verify`, and move it away to begin a new one")

// AuditHead is the last record of a log. Kept elsewhere, it shows when the end of
// the log was taken away. The zero value is the head of an empty log.
type AuditHead struct {
	Records uint64 `json:"records"`
	MAC     string `json:"mac"` // hexadecimal, "" for no record
}

// Audit is the daemon's audit log: JSON lines, each with the MAC of the one before
// it and its own under a key that is not on the same disk in clear. Somebody who
// can write the file can not change, remove or reorder lines unseen, only cut the
// end, which the head shows. Its methods may be called concurrently.
//
//	Append: line → write at the end → fsync → return
//
// A crash before the fsync ends leaves a torn last line, for which nobody was told
// that it is there; OpenAudit cuts it off.
type Audit struct {
	lock io.Closer

	mu       sync.Mutex // guards the rest, over the fsync: records come one after the other
	file     *durable.Appender
	mac      *crypto.MAC
	head     AuditHead
	repaired int64
}

// OpenAudit opens the log name in dir for appending under key, which was derived
// with crypto.PurposeAudit, and makes it when it is missing. It repairs a torn
// last line. Errors: ErrAuditDamaged; *durable.HeldError when another process
// has it.
//
// The caller compares Head with the head it kept: the kept record must be in the
// log, see VerifyAudit.
func OpenAudit(dir durable.FS, name string, key crypto.Key) (*Audit, error) {
	lock, err := dir.Lock(name+".lock", durable.Exclusive, strconv.Itoa(os.Getpid()))
	if err != nil {
		return nil, err
	}
	file, err := durable.OpenAppend(dir, name)
	if err != nil {
		lock.Close()
		return nil, err
	}
	a := &Audit{lock: lock, file: file, mac: crypto.NewMAC(key)}
	if err := a.resume(); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// resume finds the last record and repairs what a crash left behind it. One append
// is under way at a time, so at most one line is torn, and whole lines before it
// were synced. A torn line lacks its end, or has blocks of zeros, which no record
// holds since JSON escapes them; everything else at the end is not ours to remove.
func (a *Audit) resume() error {
	size := a.file.Size()
	start := max(0, size-2*maxAuditLine)
	tail := make([]byte, size-start)
	if len(tail) > 0 {
		if n, err := a.file.ReadAt(tail, start); n < len(tail) {
			return err
		}
	}
	// rest is the last line when it is torn, good what stands before it.
	good, rest := tail, []byte(nil)
	last, ended := bytes.CutSuffix(tail, []byte("\n"))
	i := bytes.LastIndexByte(last, '\n') + 1
	if len(tail) > 0 && (!ended || bytes.IndexByte(last[i:], 0) >= 0) {
		good, rest = tail[:i], tail[i:]
	}
	if i == 0 && start > 0 || len(rest) > maxAuditLine {
		return ErrAuditDamaged
	}
	if len(good) > 0 {
		line := good[:len(good)-1]
		line = line[bytes.LastIndexByte(line, '\n')+1:]
		r, err := decodeLine(line, a.mac)
		if err != nil || !r.genuine || r.seq == 0 {
			return ErrAuditDamaged
		}
		a.head = AuditHead{Records: r.seq, MAC: r.sum}
	}
	if len(rest) == 0 {
		return nil
	}
	if r, err := decodeLine(rest, a.mac); err == nil && r.genuine && r.seq == a.head.Records+1 && r.prev == a.prev() {
		// All but the line end reached the disk: a record is not thrown away.
		if err := a.file.Append([]byte("\n")); err != nil {
			return err
		}
		a.head = AuditHead{Records: r.seq, MAC: r.sum}
		return nil
	}
	a.repaired = int64(len(rest))
	return a.file.Cut(size - a.repaired)
}

func (a *Audit) prev() string {
	if a.head.Records == 0 {
		return noPrev
	}
	return a.head.MAC
}

// Append writes a record and returns when it is durable. After an error the record
// is not there; what it was about must not be done, or not be acknowledged. On a
// full disk later calls may succeed; durable.ErrAppenderFailed is final for this
// Audit.
func (a *Audit) Append(r Record) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	line, sum, err := encodeLine(r, a.head.Records+1, a.prev(), a.mac)
	if err != nil {
		return err
	}
	if err := a.file.Append(line); err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	a.head = AuditHead{Records: a.head.Records + 1, MAC: sum}
	return nil
}

// Head is the last durable record.
func (a *Audit) Head() AuditHead {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.head
}

// Repaired is how many bytes of a torn last line OpenAudit cut off.
func (a *Audit) Repaired() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.repaired
}

// Close closes the log; no Append is running.
func (a *Audit) Close() error {
	return errors.Join(a.file.Close(), a.lock.Close())
}
