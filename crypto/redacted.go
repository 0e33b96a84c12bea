package crypto

import (
	"fmt"
	"io"
	"log/slog"
)

const redactedText = "[redacted]"

// redacted is embedded in every struct that holds a secret, so that no verb of
// fmt, no slog handler and no encoder shows it. Beware that fmt can not call
// methods on unexported fields of someone else's struct: hold a Key there
// behind a pointer, or not at all.
type redacted struct{}

func (redacted) String() string               { return redactedText }
func (redacted) GoString() string             { return redactedText }
func (redacted) Format(s fmt.State, _ rune)   { io.WriteString(s, redactedText) }
func (redacted) LogValue() slog.Value         { return slog.StringValue(redactedText) }
func (redacted) MarshalText() ([]byte, error) { return []byte(redactedText), nil }
