package source

// CompilePatterns returns a function that tells whether a list of patterns, as in [FilesOptions.Exclude], matches what stands
// under name in the directory at the components dirs. The error names the pattern that is wrong.
func CompilePatterns(list []string) (match func(dirs []string, name string, directory bool) bool, err error) {
	p, err := compilePatterns(list, nil)
	if err != nil {
		return nil, err
	}
	return p.excluded, nil
}
