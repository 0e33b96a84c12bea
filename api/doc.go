// Package api is the Backup API over HTTP: its routes and who may call them, what
// stands on the wire, how errors become answers, and the [Client] that commands use.
//
//	connection ─► limits ─► request id ─► who calls ─► role ─► handler ─► job.Jobs
//	                                                              └──────► repo, browse
//
// Every route is a row of one table and goes through one function, which does all
// that routes have in common. A handler decodes, calls, and says what to answer; it
// never writes an error. docs/api/openapi.yaml is the contract for clients, and a
// test holds the running server against it.
//
// A change is audited before it is made: the record, with the outcome "allowed", is
// durable or the change is not made. A second record of the same request tells when
// it came to nothing after that.
package api
