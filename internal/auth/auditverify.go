package auth

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/durable"
)

// maxBreaks bounds the breaks that a report names one by one.
const maxBreaks = 100

// AuditBreak is a place where the audit log is not what was written.
type AuditBreak struct {
	Line   uint64 `json:"line"`   // in the file, from 1
	Offset int64  `json:"offset"` // bytes from the beginning of the file
	Why    string `json:"why"`
}

// AuditReport says what VerifyAudit found.
type AuditReport struct {
	Records uint64       `json:"records"` // genuine lines
	Head    AuditHead    `json:"head"`    // the last genuine line
	Broken  []AuditBreak `json:"broken"`  // in the order of the file, the first hundred
	Breaks  int          `json:"breaks"`  // how many there are
	Torn    int64        `json:"torn"`    // bytes of an unfinished last line, which is no break
}

// OK reports whether the log is whole.
func (r *AuditReport) OK() bool { return r.Breaks == 0 }

// VerifyAudit reads the log name in dir and finds every line that was changed,
// removed, added or moved. known, which may be nil, is a head that was kept
// elsewhere: a log that does not contain it lost its end or is another one. The
// log may be in use. The error is of reading, not of what was read; a missing log
// is an empty one.
func VerifyAudit(dir durable.FS, name string, key crypto.Key, known *AuditHead) (AuditReport, error) {
	v := auditVerifier{mac: crypto.NewMAC(key), known: known, prev: noPrev}
	file, err := dir.Open(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return AuditReport{}, err
	default:
		defer file.Close()
		size, err := file.Size()
		if err != nil {
			return AuditReport{}, err
		}
		if err := v.read(bufio.NewReaderSize(io.NewSectionReader(file, 0, size), maxAuditLine)); err != nil {
			return AuditReport{}, err
		}
	}
	v.compare()
	return v.report, nil
}

type auditVerifier struct {
	report AuditReport
	mac    *crypto.MAC
	known  *AuditHead
	met    bool // known is in the log

	line   uint64
	offset int64
	seq    uint64 // of the last genuine line
	prev   string // its MAC
	bad    uint64 // lines since it that are not genuine
}

func (v *auditVerifier) read(r *bufio.Reader) error {
	for {
		line, err := r.ReadSlice('\n')
		n := int64(len(line))
		v.line++
		switch {
		case err == io.EOF && n == 0:
			return nil
		case err == io.EOF:
			v.report.Torn = n
			return nil
		case errors.Is(err, bufio.ErrBufferFull):
			v.broken("longer than a line may be")
			v.bad++
			for errors.Is(err, bufio.ErrBufferFull) {
				line, err = r.ReadSlice('\n')
				n += int64(len(line))
			}
			if err != nil && err != io.EOF {
				return err
			}
		case err != nil:
			return err
		case bytes.IndexByte(line, 0) >= 0 && atEnd(r):
			v.report.Torn = n
			return nil
		default:
			v.judge(bytes.TrimSuffix(line, []byte("\n")))
		}
		v.offset += n
	}
}

// atEnd reports whether nothing follows. A line with zeros that nothing follows is
// what a crash leaves, see Audit; anywhere else it is a changed one.
func atEnd(r *bufio.Reader) bool {
	_, err := r.Peek(1)
	return err == io.EOF
}

// judge holds a line against its MAC and against the line before it. Lines that
// are not genuine were named already, and stand for as many records; what is
// missing beyond them shows in the numbers.
func (v *auditVerifier) judge(line []byte) {
	r, err := decodeLine(line, v.mac)
	if err != nil || !r.genuine {
		v.broken("changed, or not written by the daemon")
		v.bad++
		return
	}
	if r.seq <= v.seq {
		// Left out of the chain, so that the lines after it are held against what
		// stood before it.
		v.broken(fmt.Sprintf("record %d stands after record %d: moved, repeated, or of another log", r.seq, v.seq))
		return
	}
	switch next := v.seq + 1; {
	case r.seq > next+v.bad:
		v.broken(fmt.Sprintf("%d of the records %d to %d before it are missing", r.seq-next-v.bad, next, r.seq-1))
	case v.bad == 0 && r.prev != v.prev:
		v.broken("the record before it is not the one that was there")
	}
	v.seq, v.prev, v.bad = r.seq, r.sum, 0
	v.report.Head = AuditHead{Records: r.seq, MAC: r.sum}
	v.report.Records++
	if v.known != nil && r.seq == v.known.Records {
		v.met = true
		if r.sum != v.known.MAC {
			v.broken("not the record that was noted as the last one")
		}
	}
}

// compare looks for a log that ends before the head that is known.
func (v *auditVerifier) compare() {
	if v.known == nil || v.known.Records == 0 || v.met {
		return
	}
	if v.known.Records > v.seq {
		v.broken(fmt.Sprintf("the end is missing: %d records were written, the last one here is %d", v.known.Records, v.seq))
		return
	}
	v.broken(fmt.Sprintf("record %d, which was noted as the last one, is missing", v.known.Records))
}

func (v *auditVerifier) broken(why string) {
	v.report.Breaks++
	if len(v.report.Broken) < maxBreaks {
		v.report.Broken = append(v.report.Broken, AuditBreak{Line: v.line, Offset: v.offset, Why: why})
	}
}
