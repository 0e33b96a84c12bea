package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/generalbots/backupd/internal/auth"
	"github.com/generalbots/backupd/internal/durable"
	"github.com/spf13/cobra"
)

// tokenValue is a token in JSON. Its secret is shown by create alone.
type tokenValue struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Role      string     `json:"role"`
	Basic     bool       `json:"basic"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at"` // null: never
	Expired   bool       `json:"expired"`
	Token     string     `json:"token,omitempty"` // its secret
}

func tokenOf(t auth.Token, now time.Time) tokenValue {
	v := tokenValue{ID: t.ID, Name: t.Name, Role: t.Role.String(), Basic: t.ServesBasic(), CreatedAt: t.CreatedAt, Expired: t.Expired(now)}
	if !t.ExpiresAt.IsZero() {
		v.ExpiresAt = &t.ExpiresAt
	}
	return v
}

func (p *program) tokenCommand() *cobra.Command {
	c := group("token", "Make, list and revoke the tokens that let callers in", `Tokens stand in the state directory of the configuration, as hashes: what create prints can not be had again. A running
daemon sees changes within a second. Run these commands as the user the daemon runs as.`)
	c.AddCommand(p.tokenCreateCommand(), p.tokenListCommand(), p.tokenRevokeCommand())
	return c
}

// withTokens opens the token file of a configuration for do.
func withTokens(file string, do func(*auth.Tokens) error) (err error) {
	cfg, err := loadConfig(file)
	if err != nil {
		return err
	}
	if err := durable.MakeRoot(cfg.StateDir); err != nil {
		return fmt.Errorf("state_dir: %w", err)
	}
	t, err := auth.OpenTokens(filepath.Join(cfg.StateDir, auth.TokenFileName))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	return do(t)
}

func (p *program) tokenCreateCommand() *cobra.Command {
	var file, name, role, expires string
	var basic bool
	c := &cobra.Command{
		Use:   "create",
		Short: "Make a token and print it, once",
		Long: `Makes a token and prints it alone on standard output. It is sent as "Authorization: Bearer TOKEN" or "X-API-Key: TOKEN".

The role admin may do everything, backup_operator makes and lists backups. --basic lets the token also be the password
of HTTP Basic, the only way a BASIC script can send one: http://any:TOKEN@host:9000/... An operator's always may.`,
		Example: `  backupd token create --config /etc/backupd/backupd.yaml --name nightly --role backup_operator --expires 365d`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now()
			r, err := auth.ParseRole(role)
			if err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			var until time.Time
			if expires != "" {
				if until, err = expiry(expires, now); err != nil {
					return &usageError{cmd.CommandPath(), err}
				}
			}
			return withTokens(file, func(t *auth.Tokens) error {
				secret, made, err := t.Create(auth.CreateToken{Name: name, Role: r, Expires: until, Basic: basic})
				if err != nil {
					return err
				}
				if p.json {
					v := tokenOf(made, now)
					v.Token = secret
					return p.value(v)
				}
				p.print("%s", secret)
				p.say("made token %s for %s (%s); it is shown this once", made.ID, made.Name, made.Role)
				return nil
			})
		},
	}
	p.configFlag(c, &file)
	c.Flags().StringVar(&name, "name", "", "`NAME` of who gets it, as the audit log will call them")
	c.Flags().StringVar(&role, "role", "", "`ROLE`: admin or backup_operator")
	c.Flags().StringVar(&expires, "expires", "", "when it ends: a `TIME` from now like 90d, 12h, 30m, or a date like 2027-01-31 (its end, UTC)")
	c.Flags().BoolVar(&basic, "basic", false, "let it be the password of HTTP Basic too")
	for _, flag := range []string{"name", "role"} {
		_ = c.MarkFlagRequired(flag) // they are there
	}
	words(c, "role", "admin", "backup_operator")
	return c
}

// maxLifetime is the longest a token may be given, beyond which a slip is more likely than a wish.
const maxLifetime = 100 * 365 * 24 * time.Hour

// expiry reads a span of days, hours or minutes from now, or a date or time.
func expiry(s string, now time.Time) (time.Time, error) {
	var at time.Time
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > int(maxLifetime/(24*time.Hour)) {
			return at, fmt.Errorf("--expires %q: want a number of days up to 36500 before d", s)
		}
		at = now.Add(time.Duration(n) * 24 * time.Hour)
	} else if span, err := time.ParseDuration(s); err == nil {
		at = now.Add(span)
	} else if day, err := time.Parse(time.DateOnly, s); err == nil {
		at = day.AddDate(0, 0, 1)
	} else if at, err = time.Parse(time.RFC3339, s); err != nil {
		return at, fmt.Errorf("--expires %q: want a time from now like 90d or 12h, or a date like 2027-01-31", s)
	}
	if !at.After(now) || at.Sub(now) > maxLifetime {
		return at, fmt.Errorf("--expires %q is not in the future, or more than 100 years away", s)
	}
	return at, nil
}

func (p *program) tokenListCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the tokens, expired ones included",
		Example: "  backupd token list --config /etc/backupd/backupd.yaml --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return withTokens(file, func(t *auth.Tokens) error {
				list, err := t.List()
				if err != nil {
					return err
				}
				now := time.Now()
				if p.json {
					out := make([]tokenValue, len(list))
					for i, x := range list {
						out[i] = tokenOf(x, now)
					}
					return p.value(out)
				}
				p.table("ID NAME ROLE BASIC CREATED EXPIRES", func(row func(...any)) {
					for _, x := range list {
						basic, until := "no", "never"
						if x.ServesBasic() {
							basic = "yes"
						}
						if !x.ExpiresAt.IsZero() {
							until = timeText(x.ExpiresAt)
						}
						if x.Expired(now) {
							until += " (expired)"
						}
						row(x.ID, x.Name, x.Role, basic, timeText(x.CreatedAt), until)
					}
				})
				return nil
			})
		},
	}
	p.configFlag(c, &file)
	return c
}

func (p *program) tokenRevokeCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:     "revoke ID|NAME",
		Short:   "Take a token back; a running daemon knows within a second",
		Example: "  backupd token revoke --config /etc/backupd/backupd.yaml nightly",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return withTokens(file, func(t *auth.Tokens) error {
				gone, err := t.Revoke(args[0])
				if errors.Is(err, auth.ErrNoSuchToken) {
					return &absent{fmt.Errorf("%w: %.80q", err, args[0])}
				}
				if err != nil {
					return err
				}
				if p.json {
					return p.value(tokenOf(gone, time.Now()))
				}
				p.say("revoked token %s of %s", gone.ID, gone.Name)
				return nil
			})
		},
	}
	p.configFlag(c, &file)
	return c
}
