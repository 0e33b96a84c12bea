package config

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

const wantName = "a name is made of a-z, 0-9 and -, does not begin with - and has 63 characters at most"

// maxUnixPath is what a socket's address has room for.
const maxUnixPath = 107

// validator judges values without a look at the machine. What the decoder refused already is not judged again.
type validator struct {
	c       *Config
	refused func(key string) bool
	errors  Errors
}

func (v *validator) refuse(key, format string, a ...any) {
	if v.refused != nil && v.refused(key) {
		return
	}
	v.errors = append(v.errors, &Error{File: v.c.file, Line: v.c.at(key), Key: key, Text: fmt.Sprintf(format, a...)})
}

// need refuses an empty value.
func (v *validator) need(key, value, why string) bool {
	if value == "" {
		v.refuse(key, "is missing: %s", why)
	}
	return value != ""
}

// path refuses a path that could mean several places.
func (v *validator) path(key, path string) bool {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		clean := ""
		if filepath.IsAbs(path) {
			clean = ", here " + filepath.Clean(path)
		}
		v.refuse(key, "want an absolute path without ., .. and double slashes%s, not %q", clean, path)
		return false
	}
	return true
}

func (v *validator) file(key, path, why string) {
	if v.need(key, path, why) {
		v.path(key, path)
	}
}

func (v *validator) oneOf(key, value string, allowed ...string) bool {
	if slices.Contains(allowed, value) {
		return true
	}
	hint := ""
	if meant := near(value, allowed); meant != "" {
		hint = fmt.Sprintf(": did you mean %s?", meant)
	}
	v.refuse(key, "want one of %s, not %q%s", strings.Join(allowed, ", "), shorten(value), hint)
	return false
}

func (v *validator) between(key string, n, least, most int) {
	if n < least || n > most {
		v.refuse(key, "want a number from %d to %d, not %d", least, most, n)
	}
}

func (v *validator) all() {
	c := v.c
	v.listen()
	if v.need("repository.path", c.Repository.Path, "the directory of the repository") {
		v.path("repository.path", c.Repository.Path)
	}
	v.opens()
	if v.need("state_dir", c.StateDir, "the directory for jobs, tokens and the index") {
		v.path("state_dir", c.StateDir)
	}
	v.sources()
	for _, name := range slices.Sorted(maps.Keys(c.Targets)) {
		v.target("targets."+name, c.Targets[name])
	}
	v.auth()
	if zone := c.SchedulesTimezone; zone == "Local" || zone == "" {
		v.refuse("schedules_timezone", "want the name of a time zone, like UTC or Europe/Berlin, not %q", zone)
	} else if _, err := time.LoadLocation(zone); err != nil {
		v.refuse("schedules_timezone", "want the name of a time zone, like UTC or Europe/Berlin: %q is unknown on this machine", zone)
	}
	v.between("retention.minimum", c.Retention.Minimum, 1, 10_000)
	v.duration("verify.every", c.Verify.Every, time.Hour, true)
	v.limits()
	if c.Memory < 128<<20 {
		v.refuse("memory", "want 128 MiB at least, not %s", c.Memory)
	}
	v.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	v.oneOf("log.format", c.Log.Format, "text", "json")
	v.apart(filepath.Clean)
}

func (v *validator) duration(key string, d, least time.Duration, zero bool) {
	if d < least && !(zero && d == 0) {
		never := ""
		if zero {
			never = ", or 0 for never"
		}
		v.refuse(key, "want %v at least%s, not %v", least, never, d)
	}
}

func (v *validator) limits() {
	l := v.c.Limits
	v.between("limits.connections", l.Connections, 16, 100_000)
	v.between("limits.requests_per_second", l.RequestsPerSecond, 1, 100_000)
	v.between("limits.auth_failures_per_minute", l.AuthFailuresPerMinute, 1, 10_000)
	v.between("limits.queued_jobs", l.QueuedJobs, 1, 100_000)
	v.between("limits.parallel_restores", l.ParallelRestores, 1, 64)
	v.duration("limits.job_history", l.JobHistory, 24*time.Hour, false)
	if l.BodySize < 1<<10 || l.BodySize > 10<<20 {
		v.refuse("limits.body_size", "want a size from 1 KiB to 10 MiB, not %s", l.BodySize)
	}
	if l.IO != 0 && l.IO < MinRate {
		v.refuse("limits.io", "want %s a second at least, or 0 for no limit, not %s", MinRate, l.IO)
	}
	if l.CPU != 0 && l.CPU < MinCores {
		v.refuse("limits.cpu", "want %s cores at least, or 0 for no limit, not %s", MinCores, l.CPU)
	}
	v.between("limits.nice", l.Nice, 0, 19)
	v.oneOf("limits.io_class", l.IOClass, "normal", "lowest", "idle")
}

// listen judges the address, and that what can be reached from elsewhere is encrypted.
func (v *validator) listen() {
	c := v.c
	if c.TLS != nil {
		v.file("tls.cert_file", c.TLS.CertFile, "the certificate, PEM")
		v.file("tls.key_file", c.TLS.KeyFile, "the certificate's key, PEM")
	}
	if path, ok := strings.CutPrefix(c.Listen, "unix:"); ok {
		if v.path("listen", path) && len(path) > maxUnixPath {
			v.refuse("listen", "a socket's path has %d bytes at most, not %d", maxUnixPath, len(path))
		}
		if c.TLS != nil {
			v.refuse("tls", "a unix socket takes no tls: remove it, or listen on host:port")
		}
		return
	}
	i := strings.LastIndexByte(c.Listen, ':')
	port, err := 0, error(nil)
	if i >= 0 {
		port, err = strconv.Atoi(c.Listen[i+1:])
	}
	if i < 0 || err != nil || port < 0 || port > 65535 {
		v.refuse("listen", "want host:port or unix:/path, like 127.0.0.1:9000, not %q", c.Listen)
		return
	}
	host := c.Listen[:i]
	loopback := host == "localhost"
	if !loopback && host != "" {
		bare := host
		if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
			bare = host[1 : len(host)-1]
		} else if strings.Contains(host, ":") {
			bare = "" // an IPv6 address without brackets
		}
		ip, err := netip.ParseAddr(bare)
		if err != nil {
			v.refuse("listen", "want an IP address, localhost or nothing before the port, not %q (IPv6 stands in brackets: [::1]:9000)", host)
			return
		}
		loopback = ip.Unmap().IsLoopback()
	}
	if !loopback && c.TLS == nil {
		v.refuse("listen", "%s can be reached from other hosts, where tokens must not travel in the clear: add tls, or listen on 127.0.0.1", c.Listen)
	}
}

// opens judges that exactly one thing opens the repository.
func (v *validator) opens() {
	r := v.c.Repository
	switch {
	case r.KeyFile != "" && r.PassphraseFile != "":
		v.refuse("repository.passphrase_file", "stands beside key_file: one of the two opens the repository")
	case r.KeyFile == "" && r.PassphraseFile == "":
		if !v.refused("repository.key_file") && !v.refused("repository.passphrase_file") {
			v.refuse("repository.key_file", "is missing: key_file or passphrase_file opens the repository")
		}
	case r.KeyFile != "":
		v.path("repository.key_file", r.KeyFile)
	default:
		v.path("repository.passphrase_file", r.PassphraseFile)
	}
}

func (v *validator) sources() {
	if len(v.c.Sources) == 0 {
		v.refuse("sources", "is missing or empty: without a source there is nothing to back up")
	}
	first := map[string]int{}
	for i := range v.c.Sources {
		s, key := &v.c.Sources[i], fmt.Sprintf("sources[%d]", i)
		if v.need(key+".name", s.Name, wantName) {
			if !validName.MatchString(s.Name) {
				v.refuse(key+".name", "%s; %q does not fit", wantName, shorten(s.Name))
			} else if line, twice := first[s.Name]; twice {
				v.refuse(key+".name", "%s is the name of the source in line %d: each needs its own", s.Name, line)
			} else {
				first[s.Name] = v.c.at(key + ".name")
			}
		}
		if v.need(key+".kind", s.Kind, "files, sqlite, postgres or s3") && v.oneOf(key+".kind", s.Kind, KindFiles, KindSQLite, KindPostgres, KindS3) {
			v.kind(key, s)
		}
		for j, p := range s.Paths {
			v.path(fmt.Sprintf("%s.paths[%d]", key, j), p)
		}
		if s.Profile == "" {
			s.Profile = s.profile()
		}
		v.oneOf(key+".profile", s.Profile, "files", "database", "media")
		if s.Hooks != nil {
			v.hooks(key+".hooks", s.Hooks)
		}
	}
}

// kind judges that a source has what its kind needs and nothing another kind would use.
func (v *validator) kind(key string, s *Source) {
	for _, k := range []struct {
		name  string
		there bool
		kinds []string
		need  bool
	}{
		{"paths", len(s.Paths) > 0, []string{KindFiles, KindSQLite}, true},
		{"exclude", len(s.Exclude) > 0, []string{KindFiles}, false},
		{"exclude_caches", s.ExcludeCaches, []string{KindFiles}, false},
		{"one_file_system", s.OneFileSystem, []string{KindFiles}, false},
		{"dsn_file", s.DSNFile != "", []string{KindPostgres}, true},
		{"endpoint", s.Endpoint != "", []string{KindS3}, true},
		{"credentials_file", s.CredentialsFile != "", []string{KindS3}, true},
	} {
		ours := slices.Contains(k.kinds, s.Kind)
		switch {
		case k.there && !ours:
			v.refuse(key+"."+k.name, "belongs to kind %s, not to %s", strings.Join(k.kinds, " and "), s.Kind)
		case !k.there && ours && k.need:
			v.refuse(key+"."+k.name, "is missing: kind %s needs it", s.Kind)
		}
	}
	for name, path := range map[string]string{"dsn_file": s.DSNFile, "credentials_file": s.CredentialsFile} {
		if path != "" {
			v.path(key+"."+name, path)
		}
	}
	if s.Endpoint != "" {
		v.url(key+".endpoint", s.Endpoint)
	}
}

func (v *validator) hooks(key string, h *Hooks) {
	if len(h.Before) == 0 && len(h.After) == 0 {
		v.refuse(key, "wants before or after: [program, argument, ...]")
	}
	for _, hook := range []struct {
		name string
		argv []string
	}{{"before", h.Before}, {"after", h.After}} {
		if len(hook.argv) > 0 && !filepath.IsAbs(hook.argv[0]) {
			v.refuse(key+"."+hook.name, "want the absolute path of a program first, not %q", shorten(hook.argv[0]))
		}
	}
	v.duration(key+".timeout", h.Timeout, time.Second, false)
	if h.Timeout > 24*time.Hour {
		v.refuse(key+".timeout", "want 24h at most, not %v", h.Timeout)
	}
}

func (v *validator) target(key string, t Target) {
	if t.Path == "" && t.Postgres == nil {
		v.refuse(key, "wants a path, the directory to restore to")
	}
	if t.Path != "" {
		v.path(key+".path", t.Path)
	}
	if t.Postgres != nil {
		v.file(key+".postgres.dsn_file", t.Postgres.DSNFile, "the file with the connection string")
	}
}

func (v *validator) auth() {
	a := v.c.Auth
	for i, role := range a.AdminRoles {
		if strings.TrimSpace(role) != role || strings.EqualFold(role, "backup_operator") {
			v.refuse(fmt.Sprintf("auth.admin_roles[%d]", i), "want a role without space around it that is not backup_operator, not %q", role)
		}
	}
	if a.JWT != nil {
		v.file("auth.jwt.secret_file", a.JWT.SecretFile, "the file with the secret that botserver signs with")
	}
	if a.OIDC == nil {
		return
	}
	if v.need("auth.oidc.issuer", a.OIDC.Issuer, "the provider's URL") {
		v.url("auth.oidc.issuer", a.OIDC.Issuer)
	}
	if a.OIDC.CAFile != "" {
		v.path("auth.oidc.ca_file", a.OIDC.CAFile)
	}
	in := a.OIDC.Introspection
	if in == nil {
		v.refuse("auth.oidc.introspection", "is missing: tokens are asked about at an introspection endpoint: url, client_id, client_secret_file")
		return
	}
	if v.need("auth.oidc.introspection.url", in.URL, "the endpoint after RFC 7662") {
		v.url("auth.oidc.introspection.url", in.URL)
	}
	v.need("auth.oidc.introspection.client_id", in.ClientID, "who asks")
	v.file("auth.oidc.introspection.client_secret_file", in.ClientSecretFile, "the file with the client's secret")
}

// url wants https, or http that stays on this host, and no secrets.
func (v *validator) url(key, text string) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" {
		v.refuse(key, "want a URL like https://host:port/path, without user and password")
		return
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if u.Scheme == "http" && u.Hostname() != "localhost" && (err != nil || !ip.Unmap().IsLoopback()) {
		v.refuse(key, "http would carry secrets in the clear to %s: use https", u.Host)
	}
}
