package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// createTable is understood by both databases.
const createTable = "CREATE TABLE %s (id BIGINT PRIMARY KEY, session_id TEXT, role TEXT, content TEXT, tokens INTEGER, created_at TEXT);\n"

// applyChanges makes the table what the rows in changed say.
const applyChanges = `UPDATE message_history SET content = changed.content, tokens = changed.tokens, created_at = changed.created_at
FROM changed WHERE changed.id = message_history.id;
INSERT INTO message_history SELECT * FROM changed WHERE NOT EXISTS (SELECT 1 FROM message_history m WHERE m.id = changed.id);
`

// sqliteFile is the table in a SQLite file, updated in place by the sqlite3 program.
type sqliteFile struct {
	table
	dir, file string
}

func beginSQLite(ctx context.Context, o options) (daily, error) {
	s := &sqliteFile{table: newTable(o.dumpMB, anywhere), dir: filepath.Join(o.work, "sqlite")}
	s.file = filepath.Join(s.dir, "live.db")
	if err := errors.Join(os.RemoveAll(s.dir), os.MkdirAll(s.dir, 0o700)); err != nil {
		return nil, err
	}
	all := make([]int, s.rows())
	for i := range all {
		all[i] = i
	}
	if err := s.load(ctx, "message_history", all, ""); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// load puts rows into a table of that name and then runs a script.
func (s *sqliteFile) load(ctx context.Context, name string, list []int, script string) error {
	rows := filepath.Join(s.dir, "rows")
	if err := s.writeRows(rows, list); err != nil {
		return err
	}
	in := filepath.Join(s.dir, "script")
	text := fmt.Sprintf("PRAGMA synchronous=OFF;\n"+createTable+".mode tabs\n.import %s %s\n%s", name, rows, name, script)
	if err := os.WriteFile(in, []byte(text), 0o600); err != nil {
		return err
	}
	return command{argv: []string{"sqlite3", "-bail", s.file}, stdin: in}.run(ctx)
}

func (s *sqliteFile) nextDay(ctx context.Context) error {
	rewritten, added := s.turn()
	return s.load(ctx, "changed", changedRows(rewritten, added, s.rows()), "BEGIN;\n"+applyChanges+"DROP TABLE changed;\nCOMMIT;\n")
}

func (s *sqliteFile) write(ctx context.Context, name string) error {
	return command{argv: []string{"cp", s.file, name}}.run(ctx)
}

func (s *sqliteFile) close() error { return os.RemoveAll(s.dir) }

// changedRows is each row of a day once.
func changedRows(rewritten []int, added, rows int) []int {
	list := slices.Clone(rewritten)
	slices.Sort(list)
	list = slices.Compact(list)
	for i := added; i < rows; i++ {
		list = append(list, i)
	}
	return list
}

// writeRows writes rows as they are now, as COPY and .import take them.
func (t *table) writeRows(name string, list []int) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	var line []byte
	for _, i := range list {
		line = t.text(line[:0], i)
		w.Write(line)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// postgres is the table in a PostgreSQL of its own, that listens nowhere but in its directory.
type postgres struct {
	table
	bin, dir string
	as       []string // what runs the server as somebody who is not root
}

// postgresPrograms is the directory of the newest server's programs.
func postgresPrograms() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) > 0 {
		slices.SortFunc(found, func(a, b string) int { return len(a) - len(b) }) // 9.6 before 15
		return filepath.Dir(found[len(found)-1]), nil
	}
	path, err := exec.LookPath("initdb")
	return filepath.Dir(path), err
}

func beginPostgres(ctx context.Context, o options) (daily, error) {
	p := &postgres{table: newTable(o.dumpMB, anywhere), dir: o.work + "-postgres"} // beside work, which others may not enter
	var err error
	if p.bin, err = postgresPrograms(); err != nil {
		return nil, err
	}
	if err := errors.Join(os.RemoveAll(p.dir), os.MkdirAll(p.dir, 0o700)); err != nil {
		return nil, err
	}
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			return nil, err
		}
		uid, _ := strconv.Atoi(u.Uid) // digits on every Unix
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(p.dir, uid, gid); err != nil {
			return nil, err
		}
		p.as = []string{"setpriv", "--reuid=" + u.Uid, "--regid=" + u.Gid, "--clear-groups"}
	}
	all := make([]int, p.rows())
	for i := range all {
		all[i] = i
	}
	if err := p.start(ctx); err != nil {
		return nil, errors.Join(err, p.close())
	}
	if err := p.load(ctx, "message_history", all, ""); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *postgres) start(ctx context.Context) error {
	data := filepath.Join(p.dir, "data")
	if err := p.run(ctx, "initdb", "-D", data, "-A", "trust", "-U", "bench", "--no-sync", "-E", "UTF8", "--locale=C"); err != nil {
		return err
	}
	options := fmt.Sprintf("-c listen_addresses='' -c unix_socket_directories=%s -c fsync=off -c autovacuum=off -c max_wal_size=256MB", p.dir)
	return p.run(ctx, "pg_ctl", "-D", data, "-w", "-l", filepath.Join(p.dir, "log"), "-o", options, "start")
}

func (p *postgres) run(ctx context.Context, program string, args ...string) error {
	argv := append(slices.Clone(p.as), filepath.Join(p.bin, program))
	return command{argv: append(argv, args...), dir: p.dir}.run(ctx)
}

func (p *postgres) load(ctx context.Context, name string, list []int, script string) error {
	in := filepath.Join(p.dir, "script")
	if err := p.writeRows(in+".rows", list); err != nil {
		return err
	}
	text := fmt.Sprintf(createTable+"\\copy %s from '%s'\n%s", name, name, in+".rows", script)
	if err := os.WriteFile(in, []byte(text), 0o600); err != nil {
		return err
	}
	return command{argv: append(p.client("psql"), "-q", "-v", "ON_ERROR_STOP=1", "postgres"), stdin: in}.run(ctx)
}

func (p *postgres) client(program string) []string {
	return []string{filepath.Join(p.bin, program), "-h", p.dir, "-U", "bench"}
}

func (p *postgres) nextDay(ctx context.Context) error {
	rewritten, added := p.turn()
	return p.load(ctx, "changed", changedRows(rewritten, added, p.rows()), applyChanges+"DROP TABLE changed;\nVACUUM message_history;\n")
}

func (p *postgres) write(ctx context.Context, name string) error {
	return command{argv: append(p.client("pg_dump"), "-Fc", "-Z0", "-t", "message_history", "-f", name, "postgres")}.run(ctx)
}

// close stops the server, whatever happened to the run.
func (p *postgres) close() error {
	stop := func() error {
		return p.run(context.Background(), "pg_ctl", "-D", filepath.Join(p.dir, "data"), "-m", "immediate", "stop")
	}
	err := stop()
	if err != nil && strings.Contains(err.Error(), "server running") { // it is not
		err = nil
	}
	return errors.Join(err, os.RemoveAll(p.dir))
}
