package repo

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
)

// The format file tells a person what the directory is and a program whether
// it may read on. It is the last file an init writes, so it is there only
// when the repository is complete.
//
//	backupd repository
//	version 1
//	id <repository id, 32 hexadecimal digits>
//	checksum <first 16 digits of the BLAKE3-256 of the lines above>
//
// The first two lines and the checksum as the last are the same in every
// version, so that "newer" can be told from "damaged".
const (
	formatName    = "format"
	formatTitle   = "backupd repository\n"
	formatMaxSize = 4096
)

func encodeFormat(id crypto.RepoID) []byte {
	return appendChecksum(fmt.Appendf(nil, "%sversion %d\nid %v\n", formatTitle, FormatVersion, id))
}

func decodeFormat(b []byte) (crypto.RepoID, error) {
	text, ok := cutChecksum(b)
	if !strings.HasPrefix(text, formatTitle) {
		if !strings.HasPrefix(string(b), formatTitle) {
			return crypto.RepoID{}, damagedFile(formatName, "it does not begin with %q", strings.TrimSpace(formatTitle))
		}
		return crypto.RepoID{}, damagedFile(formatName, "its checksum line is missing")
	}
	if !ok {
		return crypto.RepoID{}, damagedFile(formatName, "its checksum does not fit")
	}
	version, rest, _ := strings.Cut(text[len(formatTitle):], "\n")
	digits, isVersion := strings.CutPrefix(version, "version ")
	v, err := strconv.ParseUint(digits, 10, 32)
	if !isVersion || err != nil || v == 0 || digits != strconv.FormatUint(v, 10) {
		return crypto.RepoID{}, damagedFile(formatName, "its second line is not a version")
	}
	if v > FormatVersion {
		return crypto.RepoID{}, fmt.Errorf("%s: %w (version %d, this is %d)", formatName, ErrNewerFormat, v, FormatVersion)
	}
	hexID, hasID := strings.CutPrefix(rest, "id ")
	hexID, hasEnd := strings.CutSuffix(hexID, "\n")
	id, err := crypto.ParseRepoID(hexID)
	if !hasID || !hasEnd || err != nil || id.IsZero() {
		return crypto.RepoID{}, damagedFile(formatName, "its third line is not a repository id")
	}
	return id, nil
}

// readFormat returns the id of the repository in st. ErrNoRepository when
// there is none, ErrDamaged when only the format file is missing.
func readFormat(ctx context.Context, st store.Store) (crypto.RepoID, error) {
	b, err := readObject(ctx, st, formatName, formatMaxSize, nil)
	if err == nil {
		return decodeFormat(b)
	}
	if !errors.Is(err, store.ErrNotExist) {
		return crypto.RepoID{}, err
	}
	slots, err := st.List(ctx, slotDir)
	if errors.Is(err, store.ErrNotExist) || err == nil && len(slots) == 0 {
		return crypto.RepoID{}, ErrNoRepository
	}
	if err != nil {
		return crypto.RepoID{}, err
	}
	return crypto.RepoID{}, damagedFile(formatName, "it is missing, though there are key slots: the file was removed, or an init was interrupted and can be started again")
}

// checksumLine is the last line of a text file: "checksum " and 16 digits.
const checksumLine = len("checksum ") + 16 + 1

func appendChecksum(text []byte) []byte {
	sum := crypto.Sum256(text)
	return fmt.Appendf(text, "checksum %s\n", hex.EncodeToString(sum[:8]))
}

// cutChecksum returns the text above the checksum line, and whether the
// checksum fits.
func cutChecksum(b []byte) (text string, ok bool) {
	if len(b) < checksumLine {
		return "", false
	}
	text = string(b[:len(b)-checksumLine])
	if !strings.HasPrefix(string(b[len(text):]), "checksum ") {
		return "", false
	}
	return text, string(appendChecksum([]byte(text))) == string(b)
}
