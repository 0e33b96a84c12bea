package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxSecret is the greatest size of a file with a secret in bytes.
const maxSecret = 64 << 10

// maxAuthorities is the greatest size of a file of certificates in bytes.
const maxAuthorities = 1 << 20

// Check judges a configuration that Load returned against this machine, without
// the network: secrets are files that are there, not empty and closed to others,
// certificate and key fit, directories do not lie in one another by way of
// symbolic links, nothing lasting lies where it is swept unless that is meant,
// hooks are programs, and
// no kind is named that this version can not do. cron judges a cron expression;
// nil leaves that to whoever runs the schedules.
//
// The errors are [Errors], as those of Load.
func (c *Config) Check(cron func(string) error) error {
	v := &validator{c: c, refused: func(string) bool { return false }}
	v.secrets()
	v.places()
	v.later()
	v.programs()
	if s := c.GC.Schedule; cron != nil && s != "never" {
		if err := cron(s); err != nil {
			v.refuse("gc.schedule", "want five fields, @daily or the like, or never: %v", err)
		}
	}
	return v.errors.errorOrNil()
}

// secret judges a file whose content nobody else may know. A group that is given
// to the daemon may read it.
func (v *validator) secret(key, path string) bool {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		v.refuse(key, "%s is not there", path)
	case err != nil:
		v.refuse(key, "%v", err)
	case !info.Mode().IsRegular():
		v.refuse(key, "%s is no regular file", path)
	case info.Size() == 0:
		v.refuse(key, "%s is empty", path)
	case info.Size() > maxSecret:
		v.refuse(key, "%s has %d bytes, more than the %d of any secret", path, info.Size(), maxSecret)
	case info.Mode().Perm()&0o027 != 0:
		v.refuse(key, "%s has mode %04o and is open to others: chmod 0600 (or 0640 for a group of the daemon's own)", path, info.Mode().Perm())
	default:
		return true
	}
	return false
}

func (v *validator) secrets() {
	c := v.c
	for key, path := range map[string]string{
		"repository.key_file":        c.Repository.KeyFile,
		"repository.passphrase_file": c.Repository.PassphraseFile,
	} {
		if path != "" {
			v.secret(key, path)
		}
	}
	if c.Auth.JWT != nil {
		v.secret("auth.jwt.secret_file", c.Auth.JWT.SecretFile)
	}
	if c.Auth.OIDC != nil {
		v.secret("auth.oidc.introspection.client_secret_file", c.Auth.OIDC.Introspection.ClientSecretFile)
		if path := c.Auth.OIDC.CAFile; path != "" {
			v.authorities("auth.oidc.ca_file", path)
		}
	}
	if c.TLS != nil && v.secret("tls.key_file", c.TLS.KeyFile) {
		if _, err := tls.LoadX509KeyPair(c.TLS.CertFile, c.TLS.KeyFile); err != nil {
			v.refuse("tls.cert_file", "%s and %s are no certificate and its key: %s", c.TLS.CertFile, c.TLS.KeyFile, strings.TrimPrefix(err.Error(), "tls: "))
		}
	}
}

// authorities judges a file of certificates, which are no secret.
func (v *validator) authorities(key, path string) {
	info, err := os.Stat(path) // opening a pipe would wait
	if err != nil {
		v.refuse(key, "%v", err)
		return
	}
	if !info.Mode().IsRegular() || info.Size() > maxAuthorities {
		v.refuse(key, "%s is no regular file of %d bytes at most", path, maxAuthorities)
		return
	}
	text, err := os.ReadFile(path)
	if err != nil {
		v.refuse(key, "%v", err)
	} else if !x509.NewCertPool().AppendCertsFromPEM(text) {
		v.refuse(key, "%s holds no certificate in PEM", path)
	}
}

// places judges directories as they really are on this machine.
func (v *validator) places() {
	c := v.c
	v.apart(resolve)
	lasting := map[string]string{"state_dir": c.StateDir, "repository.path": c.Repository.Path}
	for name, t := range c.Targets {
		if t.Path != "" {
			lasting["targets."+name+".path"] = t.Path
		}
	}
	for _, key := range slices.Sorted(maps.Keys(lasting)) {
		path := lasting[key]
		for _, dir := range swept {
			if !c.Temporary && (within(path, dir) || within(resolve(path), dir)) {
				v.refuse(key, "%s lies in %s, which a bot host's cleaner empties at any time: choose a directory below /var/lib, or say temporary: true where losing it does not matter", path, dir)
				break
			}
		}
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			v.refuse(key, "%s is no directory", path)
		}
	}
}

// resolve follows symbolic links as far as the path exists.
func resolve(path string) string {
	rest := ""
	for at := path; ; at = filepath.Dir(at) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(real, rest)
		}
		if at == "/" {
			return path
		}
		rest = filepath.Join(filepath.Base(at), rest)
	}
}

// later refuses what is understood but not there yet, rather than pass over it in a backup.
func (v *validator) later() {
	for i, s := range v.c.Sources {
		if s.Kind == KindPostgres || s.Kind == KindS3 {
			v.refuse(fmt.Sprintf("sources[%d].kind", i), "%s comes with a later version; this one backs up files and sqlite: take the source out", s.Kind)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.c.Targets)) {
		if v.c.Targets[name].Postgres != nil {
			v.refuse("targets."+name+".postgres", "restoring to postgres comes with a later version: take it out")
		}
	}
}

func (v *validator) programs() {
	for i, s := range v.c.Sources {
		if s.Hooks == nil {
			continue
		}
		for _, hook := range []struct {
			name string
			argv []string
		}{{"before", s.Hooks.Before}, {"after", s.Hooks.After}} {
			if len(hook.argv) == 0 {
				continue
			}
			key := fmt.Sprintf("sources[%d].hooks.%s", i, hook.name)
			info, err := os.Stat(hook.argv[0])
			switch {
			case err != nil:
				v.refuse(key, "%v", err)
			case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
				v.refuse(key, "%s is no program", hook.argv[0])
			case info.Mode().Perm()&0o002 != 0:
				v.refuse(key, "%s can be changed by anyone: chmod o-w", hook.argv[0])
			}
		}
	}
}
