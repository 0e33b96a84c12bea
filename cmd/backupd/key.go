package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/repo"
	"github.com/spf13/cobra"
)

// newKeyFlags name a credential to be made.
type newKeyFlags struct {
	key        string
	passphrase string
	recovery   bool
	label      string
}

func (f *newKeyFlags) flags(c *cobra.Command) {
	c.Flags().StringVar(&f.key, "new-key-file", "", "key `FILE` of the new slot; made if it is missing")
	c.Flags().StringVar(&f.passphrase, "new-passphrase-file", "", "`FILE` with the passphrase of the new slot")
	c.Flags().BoolVar(&f.recovery, "new-recovery-code", false, "make another recovery code and show it once")
	c.Flags().StringVar(&f.label, "label", "", "`TEXT` the slot is called in listings")
	c.MarkFlagsMutuallyExclusive("new-key-file", "new-passphrase-file", "new-recovery-code")
}

func (p *program) keyCommand() *cobra.Command {
	c := group("key", "Manage what opens the repository", `A repository has key slots. Each opens with a key file, a passphrase or a recovery code, and holds the same master key, so
removing one does not lock out who has read the repository with it before.`)
	c.AddCommand(p.keyAddCommand(), p.keyListCommand(), p.keyRemoveCommand(), p.keyPasswdCommand(), p.keyTestCommand())
	return c
}

// slotValue is what --json prints of a key slot.
type slotValue struct {
	Slot      string    `json:"slot"`
	Kind      string    `json:"kind"`
	Label     string    `json:"label"`
	CreatedAt time.Time `json:"created_at"`
	Epoch     uint32    `json:"key_epoch"`
	InUse     bool      `json:"in_use"` // it opened the repository for this command
}

func (p *program) slotOf(r *repo.Repo, s crypto.SlotInfo) slotValue {
	return slotValue{
		Slot: fmt.Sprintf("%08x", s.ID), Kind: strings.ReplaceAll(s.Kind.String(), " ", "_"), Label: s.Label,
		CreatedAt: time.Unix(s.CreatedUnix, 0).UTC(), Epoch: s.Epoch, InUse: s.ID == r.Slot().ID,
	}
}

func (p *program) keyAddCommand() *cobra.Command {
	var f newKeyFlags
	c := &cobra.Command{
		Use:   "add",
		Short: "Add a key slot; without a flag, for a passphrase typed at a prompt",
		Long:  `Adds another way to open the repository. What opened it stays as it is. Without a flag a new passphrase is asked for.`,
		Example: `  backupd repo key add --new-passphrase-file /root/passphrase --label safe
  backupd repo key add --new-recovery-code`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withRepo(cmd.Context(), func(r *repo.Repo) error {
				info, err := p.addSlot(cmd, r, &f)
				if err != nil {
					return err
				}
				return p.showSlot(p.slotOf(r, info), "added")
			})
		},
	}
	f.flags(c)
	return c
}

// addSlot makes a slot; a key file or a code made for it is worth nothing when that fails.
func (p *program) addSlot(cmd *cobra.Command, r *repo.Repo, f *newKeyFlags) (info crypto.SlotInfo, err error) {
	s := repo.NewSlot{Label: f.label}
	undo := func() {}
	code := ""
	switch {
	case f.key != "":
		s.Credential, undo, err = p.keyFile(f.key)
	case f.passphrase != "":
		s.Credential, err = readSecret(f.passphrase, crypto.PassphraseCredential)
	case f.recovery:
		code, s.Credential, err = crypto.NewRecoveryCode()
	default:
		var ok bool
		s.Credential, ok, err = p.promptNew(cmd.Context())
		if !ok && err == nil {
			err = errors.New("what shall open the repository? give --new-key-file, --new-passphrase-file or --new-recovery-code")
		}
	}
	if err != nil {
		undo()
		return info, err
	}
	defer s.Credential.Wipe()
	if s.Label == "" {
		s.Label = s.Credential.Kind().String()
	}
	if info, err = r.AddKey(cmd.Context(), s); err != nil {
		undo()
		return info, err
	}
	if code != "" {
		p.sayRecovery(code)
	}
	return info, nil
}

func (p *program) showSlot(v slotValue, done string) error {
	p.say("%s key slot %s (%s)", done, v.Slot, strings.ReplaceAll(v.Kind, "_", " "))
	if p.json {
		return p.value(v)
	}
	p.print("%s", v.Slot)
	return nil
}

func (p *program) keyListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the key slots",
		Long:    "Lists what opens the repository, and which of it did so for this command. Keys and codes themselves are never shown.",
		Example: "  backupd repo key list",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withRepo(cmd.Context(), func(r *repo.Repo) error {
				slots, err := r.Keys(cmd.Context())
				if err != nil {
					return err
				}
				values := make([]slotValue, len(slots))
				for i, s := range slots {
					values[i] = p.slotOf(r, s)
				}
				if p.json {
					return p.value(values)
				}
				p.table("SLOT KIND CREATED LABEL", func(row func(...any)) {
					for _, v := range values {
						mark := ""
						if v.InUse {
							mark = " (used now)"
						}
						row(v.Slot, strings.ReplaceAll(v.Kind, "_", " "), timeText(v.CreatedAt), printable(v.Label)+mark)
					}
				})
				return nil
			})
		},
	}
}

func (p *program) keyRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "remove SLOT",
		Short: "Remove a key slot; the last one stays",
		Long: `Removes a key slot, named by its id or a unique beginning of it. Whoever has opened the repository with it before may have
copied the master key, which stays the same: against them only a new repository helps.`,
		Example: "  backupd repo key remove 63b7",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withRepo(cmd.Context(), func(r *repo.Repo) error {
				slots, err := r.Keys(cmd.Context())
				if err != nil {
					return err
				}
				id, err := named(slotID(slots, args[0]))
				if err != nil {
					return err
				}
				if _, err := named(id, r.RemoveKey(cmd.Context(), id)); err != nil {
					return err
				}
				p.say("removed key slot %s; 'backupd repo key list' shows what is left", id)
				if p.json {
					return p.value(map[string]string{"removed": id})
				}
				return nil
			})
		},
	}
}

// slotID finds a slot by a unique beginning of its id. A whole id may be of a slot that is damaged and so not listed.
func slotID(slots []crypto.SlotInfo, query string) (string, error) {
	var found []string
	for _, s := range slots {
		if id := fmt.Sprintf("%08x", s.ID); strings.HasPrefix(id, strings.ToLower(query)) {
			found = append(found, id)
		}
	}
	switch {
	case len(found) == 1 && query != "":
		return found[0], nil
	case len(found) == 0 && len(query) == 8:
		return query, nil
	}
	how := "no id begins so"
	if len(found) > 1 {
		how = fmt.Sprintf("%d ids begin so", len(found))
	}
	return "", fmt.Errorf("key slot %q: %w: %s; 'backupd repo key list' shows them", query, repo.ErrNotFound, how)
}

func (p *program) keyPasswdCommand() *cobra.Command {
	var f newKeyFlags
	c := &cobra.Command{
		Use:   "passwd",
		Short: "Replace what the repository was opened with by a new passphrase or key file",
		Long: `Adds a key slot and then removes the one that opened the repository, if it is of the same kind: a passphrase replaces a
passphrase, a key file a key file. Opened with anything else, as when a passphrase was lost, nothing is removed.`,
		Example: "  backupd repo key passwd --new-passphrase-file /root/new",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withRepo(cmd.Context(), func(r *repo.Repo) error {
				old := r.Slot()
				info, err := p.addSlot(cmd, r, &f)
				if err != nil {
					return err
				}
				if old.Kind != info.Kind {
					p.say("the repository was opened with a %s, which stays", old.Kind)
				} else if err := r.RemoveKey(cmd.Context(), fmt.Sprintf("%08x", old.ID)); err != nil {
					return fmt.Errorf("the new key slot is in place, but the old one is still there: %w", err)
				} else {
					p.say("removed key slot %08x (%s)", old.ID, old.Kind)
				}
				return p.showSlot(p.slotOf(r, info), "changed to")
			})
		},
	}
	f.flags(c)
	return c
}

func (p *program) keyTestCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "test",
		Short: "Prove that a key file, a passphrase or a recovery code opens the repository",
		Long: `Opens the repository with what the flags name and says which key slot it is; nothing else happens. With --recovery-file
it is the way to try a recovery code as it was written down: upper and lower case, dashes and line ends do not matter.`,
		Example: `  backupd repo key test --recovery-file /root/code
  backupd repo key test --key-file /etc/backupd/key`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withRepo(cmd.Context(), func(r *repo.Repo) error {
				v := p.slotOf(r, r.Slot())
				p.say("it opens the repository, through key slot %s (%s)", v.Slot, strings.ReplaceAll(v.Kind, "_", " "))
				if p.json {
					return p.value(v)
				}
				return nil
			})
		},
	}
}
