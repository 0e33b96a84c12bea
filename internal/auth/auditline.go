package auth

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/generalbots/backupd/crypto"
)

// Record is one line of the audit log: who asked for what, and what came of it.
// Long texts are cut, with a mark; Detail holds no secret.
type Record struct {
	Time      time.Time // zero: now
	Actor     string    // Principal.String, or "" for somebody unknown
	Role      string    // Role.String
	Method    string    // of authentication
	Action    string    // such as "backup.create" or "request.denied"
	Resource  string    // what it was about, such as an id
	Outcome   string    // such as "ok", or the code of the error
	Remote    string    // address of the peer
	RequestID string
	Detail    string
}

const (
	maxAuditLine = 64 << 10 // bytes, line end included
	cutMark      = "...[cut]"
)

// auditLine is the order of members in a line. The MAC is the last and covers
// every byte of the line before it:
//
//	{"seq":7,"time":"…",…,"prev":"MAC of line 6","mac":"MAC of this line"}
type auditLine struct {
	Seq       uint64    `json:"seq"`
	Time      time.Time `json:"time"`
	Actor     string    `json:"actor"`
	Role      string    `json:"role"`
	Method    string    `json:"method"`
	Action    string    `json:"action"`
	Resource  string    `json:"resource"`
	Outcome   string    `json:"outcome"`
	Remote    string    `json:"remote"`
	RequestID string    `json:"request_id"`
	Detail    string    `json:"detail"`
	Prev      string    `json:"prev"`
}

// macOpen begins the last member of a line, macLength is all of it with the
// closing brace.
const (
	macOpen   = `,"mac":"`
	macLength = len(macOpen) + 64 + len(`"}`)
)

// noPrev is the prev of the first line.
var noPrev = strings.Repeat("0", 64)

// encodeLine makes the line of a record, line end included, and its MAC.
func encodeLine(r Record, seq uint64, prev string, mac *crypto.MAC) (line []byte, sum string, err error) {
	at := r.Time
	if at.IsZero() {
		at = time.Now()
	}
	body, err := json.Marshal(auditLine{
		Seq: seq, Time: at.UTC(), Prev: prev,
		Actor: cut(r.Actor, 300), Role: cut(r.Role, 64), Method: cut(r.Method, 64), Action: cut(r.Action, 128),
		Resource: cut(r.Resource, 1024), Outcome: cut(r.Outcome, 128), Remote: cut(r.Remote, 128),
		RequestID: cut(r.RequestID, 128), Detail: cut(r.Detail, 2048),
	})
	if err != nil {
		return nil, "", err
	}
	body = body[:len(body)-1] // the brace comes after the MAC
	digest := mac.Sum(body)
	sum = hex.EncodeToString(digest[:])
	line = append(body, macOpen...)
	line = append(line, sum...)
	line = append(line, "\"}\n"...)
	if len(line) > maxAuditLine {
		return nil, "", errors.New("audit record is too long")
	}
	return line, sum, nil
}

// cut shortens text, at a character.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	n := limit - len(cutMark)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + cutMark
}

// readLine is what of a line chains it, told without believing its MAC.
type readLine struct {
	seq       uint64
	prev, sum string
	genuine   bool // the MAC is right
}

var errLine = errors.New("not a line of the audit log")

// decodeLine reads a line without its line end. A line that does not look like
// one is errLine; one that does, with a wrong MAC, is not genuine.
func decodeLine(line []byte, mac *crypto.MAC) (readLine, error) {
	n := len(line) - macLength
	if len(line) >= maxAuditLine || n < 1 || !bytes.HasPrefix(line[n:], []byte(macOpen)) || !bytes.HasSuffix(line, []byte(`"}`)) {
		return readLine{}, errLine
	}
	r := readLine{sum: string(line[n+len(macOpen) : len(line)-len(`"}`)])}
	o, err := parseObject(line)
	if err != nil {
		return readLine{}, errLine
	}
	if r.seq, err = strconv.ParseUint(string(o["seq"]), 10, 64); err != nil {
		return readLine{}, errLine
	}
	if r.prev, err = o.text("prev", 64); err != nil {
		return readLine{}, errLine
	}
	// The MAC decides alone; a forger has no use for how long the comparison takes,
	// since it never runs on his behalf.
	digest := mac.Sum(line[:n])
	r.genuine = hex.EncodeToString(digest[:]) == r.sum
	return r, nil
}
