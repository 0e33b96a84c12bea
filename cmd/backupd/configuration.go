package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/generalbots/backupd/internal/config"
	"github.com/generalbots/backupd/internal/job"
	"github.com/spf13/cobra"
)

// mistakes are what is wrong with a configuration file, each on a line of its own.
type mistakes struct {
	file string
	list config.Errors
}

// Error says how many there are; Unwrap and lines say which.
func (m *mistakes) Error() string {
	return fmt.Sprintf("%s in the configuration %s", counted(len(m.list), "mistake"), m.file)
}

// Unwrap gives the list.
func (m *mistakes) Unwrap() error { return m.list }

func (m *mistakes) lines() []string {
	out := make([]string, len(m.list))
	for i, e := range m.list {
		out[i] = e.Error()
	}
	return out
}

// mistaken makes mistakes of what config returned; other errors stay as they are.
func mistaken(file string, err error) error {
	var list config.Errors
	if errors.As(err, &list) {
		return &mistakes{file, list}
	}
	return err
}

// loadConfig reads a configuration for a command that uses a part of it.
func loadConfig(file string) (*config.Config, error) {
	if file == "" {
		return nil, errors.New("which configuration? give --config FILE")
	}
	c, err := config.Load(file)
	return c, mistaken(file, err)
}

// checkedConfig reads a configuration and judges it against this machine, as the daemon does before it starts.
// credentials is systemd's directory of them, or empty: what lies there need not lie where the file says.
func checkedConfig(file, credentials string) (*config.Config, error) {
	c, err := loadConfig(file)
	if err != nil {
		return nil, err
	}
	err = c.Check(job.CheckCron)
	var list config.Errors
	if errors.As(err, &list) {
		key, passphrase := credentialsIn(credentials)
		list = slices.DeleteFunc(list, func(e *config.Error) bool {
			return (key != "" || passphrase != "") && (e.Key == "repository.key_file" || e.Key == "repository.passphrase_file")
		})
		if len(list) == 0 {
			return c, nil
		}
		err = list
	}
	return c, mistaken(file, err)
}

// credentialsIn are the files in systemd's directory of credentials that open a repository; empty where there is none.
func credentialsIn(dir string) (key, passphrase string) {
	if dir == "" {
		return "", ""
	}
	return existing(dir, "backupd-key"), existing(dir, "backupd-passphrase")
}

// opening are the files that open the repository of a configuration: what systemd was given to keep comes first.
func opening(c *config.Config, credentials string) (key, passphrase string) {
	if key, passphrase = credentialsIn(credentials); key != "" || passphrase != "" {
		return key, passphrase
	}
	return c.Repository.KeyFile, c.Repository.PassphraseFile
}

func (p *program) configFlag(c *cobra.Command, file *string) {
	c.Flags().StringVar(file, "config", "", "configuration `FILE` of the daemon")
	_ = c.MarkFlagFilename("config", "yaml", "yml") // the flag is there
}

func (p *program) configCommand() *cobra.Command {
	c := group("config", "Judge the configuration of the daemon", `The configuration is one YAML file, in which every setting is explained by the example that comes with backupd.`)
	c.AddCommand(p.configCheckCommand())
	return c
}

func (p *program) configCheckCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "check",
		Short: "Name every mistake in a configuration, by line and key",
		Long: `Reads the configuration as the daemon does and judges it against this machine: files of secrets are there and closed
to others, directories do not lie in one another, hooks are programs. Nothing is opened or changed, and no network is
used. Run it as the user the daemon runs as.`,
		Example: "  backupd config check --config /etc/backupd/backupd.yaml",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := checkedConfig(file, p.env("CREDENTIALS_DIRECTORY"))
			if err != nil {
				return err
			}
			if cfg.TLS != nil {
				// The daemon starts all the same: its schedules need no client.
				var c certificates
				if err := errors.Join(c.load(cfg.TLS), c.trouble(time.Now())); err != nil {
					return &mistakes{file, config.Errors{{File: file, Key: "tls.cert_file", Text: err.Error()}}}
				}
			}
			if p.json {
				return p.value(struct {
					File    string `json:"file"`
					Sound   bool   `json:"sound"`
					Listen  string `json:"listen"`
					Sources int    `json:"sources"`
					Targets int    `json:"targets"`
				}{file, true, cfg.Listen, len(cfg.Sources), len(cfg.Targets)})
			}
			p.say("%s is in order: %s, %s, listening on %s", printable(file), counted(len(cfg.Sources), "source"), counted(len(cfg.Targets), "target"), cfg.Listen)
			return nil
		},
	}
	p.configFlag(c, &file)
	return c
}
