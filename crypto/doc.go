// Package crypto turns plaintext into names and sealed bytes: chunk ids, pack
// and file sealing, and the key slots that lead from a credential to the master
// key. No other package touches a hash, a cipher or a password function.
//
// Everything hangs from one random master key:
//
//	passphrase -- argon2id --+
//	key file ----------------+--> KEK -- HKDF --> slot key --> master key
//	recovery code -----------+                                     |
//	                                     BLAKE3 derive_key, a context per Purpose
//	                                                               |
//	   id/data  id/tree  index  audit  chunker/gear     pack      config manifest record tomb
//	   keyed BLAKE3      MAC    MAC    gear table       |                     |
//	                                       keyed BLAKE3(pack id)  keyed BLAKE3(salt)
//	                                                    |                     |
//	                                               AES-256-GCM           AES-256-GCM
//
// Each AES key serves one pack or one file, so nonces need only be unique inside
// it: a pack's nonce is (kind, ordinal), a file's is zero. What the additional
// data must say is the caller's part; this package binds only what it knows.
//
// Integers are big-endian in every structure of this package. Types that hold a
// secret print [redacted] in every format. Wiping is best effort: the master key
// lives in memory that is neither swapped nor dumped, keys derived from it are
// ordinary values that the runtime may copy.
package crypto

import "errors"

// Errors a caller may act upon. They are compared with errors.Is; what this
// package returns may carry a reason beside them, never secret bytes.
var (
	// ErrDamaged: sealed bytes do not authenticate. They were altered, moved
	// to another place (the additional data, kind or ordinal differ), or
	// sealed under another key. Nothing of the plaintext is returned.
	ErrDamaged = errors.New("sealed data is damaged")

	// ErrWrongKey: the credential is well-formed but does not open the slot.
	// There is one such error whatever the reason, so that it tells an
	// attacker nothing.
	ErrWrongKey = errors.New("wrong key")

	// ErrSlotInvalid: the bytes are not a key slot of this repository that
	// this version reads: damaged, foreign, newer, or beyond a cap. A right
	// credential will not help; another copy of the slot may.
	ErrSlotInvalid = errors.New("key slot is invalid")

	// ErrCredentialInvalid: the credential itself is malformed, such as a
	// mistyped recovery code, and was not tried on any slot.
	ErrCredentialInvalid = errors.New("credential is malformed")
)
