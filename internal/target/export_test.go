package target

// NameFiles makes files be built under a name in a stage, as on file systems that do not have unnamed ones.
func NameFiles() (restore func()) {
	unnamedFiles = false
	return func() { unnamedFiles = true }
}
