package config

// Decode fills a Config as far as it goes and gives the line of every key, judging no values.
func Decode(file string, text []byte) (*Config, map[string]int, error) {
	c, d, err := decode(file, text)
	if err != nil {
		return nil, nil, err
	}
	return c, d.line, d.errors.errorOrNil()
}

// ParseDuration reads what stands in a file.
var ParseDuration = parseDuration
