package crypto

// MasterKeyOf makes a master key of known bytes, which only vectors need.
func MasterKeyOf(secret [32]byte) (*MasterKey, error) { return newMasterKey(&secret) }

// RecoveryCodeOf returns the code for known bytes.
func RecoveryCodeOf(secret [32]byte) string { return formatRecovery(secret[:]) }

// PackNonce shows the nonce, whose uniqueness is what a pack's secrecy rests on.
func PackNonce(kind byte, ordinal uint32) [12]byte { return packNonce(kind, ordinal) }

// UseMasterKey calls f with the secret, as Derive and SealSlot do.
func UseMasterKey(m *MasterKey, f func(secret []byte)) { m.use(f) }
