package main

import (
	"context"
	"errors"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
	"github.com/generalbots/backupd/repo"
	"github.com/spf13/cobra"
)

func (p *program) initCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Make a repository",
		Long: `Makes a repository in the directory --repo, which is made too if it is missing.

With --key-file, that key will open it; a key file that does not exist yet is made. With --passphrase-file, or a
passphrase typed at a prompt, that passphrase will. Besides, a recovery code is made and shown once, on standard
error: write it down. Without the key, the passphrase and the code nobody can read the repository again.`,
		Example: "  backupd repo init --repo /srv/backup --key-file /etc/backupd/key",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.init(cmd.Context()) },
	}
}

func (p *program) init(ctx context.Context) error {
	dir, err := p.repoDir()
	if err != nil {
		return err
	}
	if err := vacant(ctx, dir); err != nil {
		return err
	}
	slots, undo, err := p.firstSlots(ctx)
	defer func() { undo() }()
	if err != nil {
		return err
	}
	code, recovery, err := crypto.NewRecoveryCode()
	if err != nil {
		return err
	}
	slots = append(slots, repo.NewSlot{Label: "recovery code", Credential: recovery})
	st, err := store.MakeDir(ctx, dir)
	if err != nil {
		return err
	}
	defer st.Close()
	stop := p.meter(2, func() reading { return reading{what: "making the repository", measure: byTime} })
	id, err := repo.Init(ctx, st, repo.InitOptions{Slots: slots})
	stop()
	if err != nil {
		return err
	}
	undo = func() {}
	p.say("made repository %s at %s", id, printable(dir))
	p.sayRecovery(code)
	if p.json {
		return p.value(struct {
			Repository string `json:"repository_id"`
			Path       string `json:"path"`
			Format     int    `json:"format_version"`
			Slots      int    `json:"slots"`
		}{id.String(), dir, repo.FormatVersion, len(slots)})
	}
	return nil
}

// sayRecovery shows a new recovery code, once. It is the only secret that is ever printed.
func (p *program) sayRecovery(code string) {
	p.say("\nThe recovery code opens the repository when all else is lost. Try it as you wrote it: backupd repo key test --recovery-file FILE")
	p.say("Recovery code, shown this once; write it down:\n\n  %s\n", code)
}

// vacant refuses a directory that holds a repository, before a key file is made for nothing.
func vacant(ctx context.Context, dir string) error {
	st, err := store.OpenDir(dir)
	if errors.Is(err, store.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer st.Close()
	switch _, err := repo.ReadID(ctx, st); {
	case err == nil:
		return repo.ErrExists
	case !errors.Is(err, repo.ErrNoRepository) && !errors.Is(err, repo.ErrDamaged):
		return err
	}
	// Of a damaged one Init finds out whether it is more than an init that was interrupted.
	return nil
}

// firstSlots are those of the credentials init was given. undo takes back a key file that was made.
func (p *program) firstSlots(ctx context.Context) (slots []repo.NewSlot, undo func(), err error) {
	undo = func() {}
	if p.access.recovery != "" {
		return nil, undo, errors.New("init makes the recovery code itself: leave --recovery-file out")
	}
	key, passphrase := p.access.key, p.access.passphrase
	if key == "" && passphrase == "" {
		key, passphrase = p.env("BACKUPD_KEY_FILE"), p.env("BACKUPD_PASSPHRASE_FILE")
	}
	if dir := p.env("CREDENTIALS_DIRECTORY"); dir != "" && key == "" && passphrase == "" {
		key, passphrase = existing(dir, "backupd-key"), existing(dir, "backupd-passphrase")
	}
	if passphrase != "" {
		c, err := readSecret(passphrase, crypto.PassphraseCredential)
		if err != nil {
			return nil, undo, err
		}
		slots = append(slots, repo.NewSlot{Label: "passphrase", Credential: c})
	}
	if key != "" {
		c, undo, err := p.keyFile(key)
		return append(slots, repo.NewSlot{Label: "key file", Credential: c}), undo, err
	}
	if len(slots) == 0 {
		c, ok, err := p.promptNew(ctx)
		if err != nil {
			return nil, undo, err
		}
		if !ok {
			return nil, undo, errors.New("what shall open the repository? give --key-file FILE, which is made if it is missing, or --passphrase-file FILE")
		}
		slots = append(slots, repo.NewSlot{Label: "passphrase", Credential: c})
	}
	return slots, undo, nil
}
