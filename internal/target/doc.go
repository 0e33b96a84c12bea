// Package target is where a restore lands: a directory tree that is written through descriptors and never left.
//
// Everything is done relative to the descriptor of a folder and with one name of one component, so there is no path that
// could lead elsewhere: a symbolic link that stands, or is planted meanwhile, at any component is refused or replaced and
// never followed. Metadata is set through the descriptor of the object that was made, so swapping a name between two
// calls reaches nothing. What exists already is never opened for writing: it is left alone or replaced by rename, so a
// hard link planted under a name does not carry the restored bytes to its other names.
//
// The shape of a restore:
//
//	d, err := target.OpenDirectory("/srv/restore", target.Options{Privileged: true})
//	etc, err := d.Root().Folder("etc")
//	w, err := etc.Create("passwd", size, mtime)  // ErrExists, ErrSame: what stands there stays
//	_, err = w.WriteAt(chunk, off)               // disjoint ranges from any goroutine; holes are ranges never written
//	problems, err := w.Finish(&meta)             // or w.Abort()
//	problems, err = etc.Finish(&meta)            // when everything below it is finished
//	etc.Close()
//	err = d.SyncAll()
//
// A name is given to nothing that is not whole, metadata included: a regular file has no name (O_TMPFILE) until Finish
// links it, everything else gets ready in a stage and is moved. So a process that dies at any moment leaves whole files,
// directories of mode 01700, which tells the next restore that they have not got their metadata yet, and a stage, whose
// name begins with ".backupd-" and which the next restore that opens its folder removes; one of a living restore is
// locked and stays. Nothing is durable before SyncAll: a power cut before it may leave files short or with zeros.
//
// What could not be set (an attribute the file system refuses, a device without privilege) is a Problem beside a file
// that is otherwise restored; an error means that the object is not there.
package target
