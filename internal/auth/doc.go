// Package auth says who calls. It knows four kinds of credential and nothing
// else: no cookie, no X-User-ID, no source address, no header that somebody in
// front may have set.
//
//	Authorization: Bearer bkp_…      a daemon token         tokens.go
//	Authorization: Bearer a.b.c      HS256 as botserver     jwt.go
//	Authorization: Bearer opaque     OIDC introspection     oidc.go
//	X-API-Key: bkp_…                 a daemon token
//	Authorization: Basic user:bkp_…  a daemon token whose role or flag allows it
//
// A credential is one kind by its shape, and that kind's verdict is final: what
// one refuses is never offered to another. Everything fails closed. A token file
// that can not be read lets nobody in by token, a provider that does not answer
// nobody whose token it alone knows.
//
// Who is authenticated has a Role, which may be None: the caller answers that
// with 403, not 401. Roles come from exact names, never from parts of them.
//
// The package also keeps the audit log, [Audit]: a record for each call that
// changes something or is denied, chained so that a changed, removed or moved
// line is found.
package auth
